classdef History < handle
% nflae.History  Keep the last snapshots of the channels, from which nflae.Client.predict predicts the next ones.
%
%   h = nflae.History(16, 2)        % keeps 16 snapshots, for predictions 2 snapshots ahead
%   h.push(H)                       % H: complex N x K, antennas x users; evenly spaced in time
%   h.push(H, t)                    % or with the time of every snapshot, s; uneven ones are resampled
%   h.push([])                      % a gap; snapshots with NaN are gaps, too
%   if h.ready()                    % twice as many snapshots as are predicted
%     r = c.predict(h, 'Ahead', 2);
%   end
%   h.clear()                       % after a change of the users, their order, or the receiver's gain
%
%   h.snapshots() is N x K x P, oldest first, NaN in gaps; h.times() is 1 x P, [] without times; h.count() is P.
%   The layout of a snapshot may be another one that c.predict is given with 'Layout', as K x N with 'kns'.
%
%   Tested in GNU Octave 7; written for MATLAB too, not tested there.

  properties (SetAccess = private)
    capacity
    ahead
  end

  properties (Access = private)
    kept = {};      % snapshots, [] in gaps
    moments = [];   % their times
    extents = [];   % size of a snapshot
  end

  methods
    function self = History(capacity, ahead)
      if nargin < 1
        capacity = 16;
      end
      if nargin < 2
        ahead = 1;
      end
      self.capacity = whole(capacity, 'the number of snapshots kept');
      self.ahead = whole(ahead, 'the number of snapshots predicted');
      if self.capacity < 2 * self.ahead
        error('nflae:badRequest', 'a history of %d snapshots predicts %d: keep %d', self.capacity, ...
          floor(self.capacity / 2), 2 * self.ahead);
      end
    end

    function push(self, H, time)
      % PUSH  Append a snapshot, [] for a gap; the oldest one is dropped from a full history.
      if ~isnumeric(H) || (~isempty(H) && (isreal(H) || issparse(H) || ndims(H) ~= 2)) %#ok<ISMAT> Octave 7 has ndims only
        error('nflae:badRequest', ['a snapshot must be a full complex matrix, antennas x users; if all imaginary parts' ...
          ' are zero, call push(complex(H))']);
      elseif ~isempty(H) && ~isempty(self.extents) && ~isequal(size(H), self.extents)
        error('nflae:badRequest', 'a snapshot of %d x %d follows ones of %d x %d: clear() begins a new history', ...
          size(H), self.extents);
      end
      if nargin < 3
        time = [];
      end
      self.check_time(time);
      if isempty(H) && isempty(self.extents)
        return  % a gap before the first snapshot
      elseif ~isempty(H)
        self.extents = size(H);
      end
      first = max(1, numel(self.kept) - self.capacity + 2);
      self.kept = [self.kept(first:end), {single(H)}];
      if ~isempty(time)
        self.moments = [self.moments(first:end), double(time)];
      end
    end

    function clear(self)
      % CLEAR  Remove all snapshots.
      self.kept = {};
      self.moments = [];
      self.extents = [];
    end

    function found = count(self)
      % COUNT  Number of snapshots, gaps included.
      found = numel(self.kept);
    end

    function found = ready(self)
      % READY  True once there are enough snapshots for the prediction.
      found = numel(self.kept) >= 2 * self.ahead;
    end

    function H = snapshots(self)
      % SNAPSHOTS  The snapshots, complex single N x K x P, oldest first; NaN in gaps.
      if isempty(self.extents)
        error('nflae:badRequest', 'the history has no snapshot yet: push one');
      end
      H = complex(nan([self.extents, numel(self.kept)], 'single'), 0);
      for i = find(~cellfun('isempty', self.kept))
        H(:, :, i) = self.kept{i};
      end
    end

    function found = times(self)
      % TIMES  Times of the snapshots, s, 1 x P; [] if they were pushed without.
      found = self.moments;
    end
  end

  methods (Access = private)
    function check_time(self, time)
      if ~isempty(self.kept) && isempty(time) ~= isempty(self.moments)
        error('nflae:badRequest', 'push a time with every snapshot of a history, or with none');
      elseif ~isempty(time)
        time = nflae.internal.number(time, 'the time of a snapshot');
        if ~isempty(self.moments) && time <= self.moments(end)
          error('nflae:badRequest', 'a snapshot at %g s follows one at %g s: push them in the order of time', ...
            time, self.moments(end));
        end
      end
    end
  end
end

function value = whole(value, name)
  value = nflae.internal.positive(value, name);
  if value ~= round(value)
    error('nflae:badRequest', '%s must be a whole number, got %g', name, value);
  end
end
