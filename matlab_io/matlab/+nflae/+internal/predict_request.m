function [header, payload, seconds, layout] = predict_request(history, arguments)
% PREDICT_REQUEST  Make the request for a call of nflae.Client.predict.
%
%   [header, payload, seconds, layout] = predict_request(history, arguments) takes an nflae.History or an array of
%   snapshots, and the name-value arguments; see nflae.internal.precode_request for what is returned.

  own = {'Ahead', 'Method', 'Geometry', 'CsiSnrDb', 'Times', 'Force', 'Then'};
  is_own = false(size(arguments));
  for i = 1:2:numel(arguments)
    if any(strcmpi(nflae.internal.text(arguments{i}, 'the name of an option'), own))
      is_own(i:min(i + 1, end)) = true;
    end
  end
  chosen = arguments;
  chosen(~is_own) = [];
  others = arguments;
  others(is_own) = [];
  options = nflae.internal.named(chosen, own);
  if isa(history, 'nflae.History')
    if isfield(options, 'Times')
      error('nflae:badRequest', 'Times are part of an nflae.History: push(H, time)');
    end
    if ~isempty(history.times())
      options.Times = history.times();
    end
    history = history.snapshots();
  elseif ndims(history) == 2 && ~any(strcmpi(others(1:2:end), 'Layout'))
    error('nflae:badRequest', ['the history is %d x %d, one snapshot: pass antennas x users x snapshots, or state' ...
      ' ''Layout'', ''nks'' for one snapshot, ''ns'' for snapshots of one user'], size(history, 1), size(history, 2));
  end
  given = @(name) isfield(options, name);
  ahead = 4;
  if given('Ahead')
    ahead = nflae.internal.positive(options.Ahead, 'Ahead');
  end
  [header, payload, seconds, layout] = nflae.internal.precode_request(history, others, ahead, given('Then'));
  if any(layout == 'r')
    error('nflae:badRequest', 'predict takes one antenna per user: make each receive antenna a user, with one axis k');
  end
  header.op = 'predict';
  header.ahead = ahead;
  if given('Method')
    header.method = nflae.internal.text(options.Method, 'Method');
  end
  if given('Geometry')
    header.geometry = nflae.internal.text(options.Geometry, 'Geometry');
  end
  if given('CsiSnrDb')
    header.csi_snr_db = nflae.internal.number(options.CsiSnrDb, 'CsiSnrDb');
  end
  if given('Force')
    if islogical(options.Force)
      options.Force = double(options.Force);
    end
    header.force = logical(nflae.internal.number(options.Force, 'Force'));
  end
  if given('Then')
    header.then = nflae.internal.text(options.Then, 'Then');
  end
  if given('Times')
    times = options.Times;
    if ~isnumeric(times) || ~isreal(times) || numel(times) ~= header.shape(end) || ~all(isfinite(times(:)))
      error('nflae:badRequest', ...
        'Times: %d times for a history of %d snapshots: one finite real number per snapshot, got %s', numel(times), ...
        header.shape(end), class(times));
    elseif numel(times) > 1
      header.times = reshape(double(times), 1, []);
    end
  end
end
