function [H, layout, convention] = channels(H, options)
% CHANNELS  Permute channels to N x K x S, or N x R x K x S, and determine their layout and convention.
%
%   [H, layout, convention] = channels(H, options) takes complex channels and a struct of options:
%
%     options.Layout        one letter per axis of H, as for nflae precode: n transmit antenna (nn for a panel), k user,
%                           r receive antenna, s drop, f subcarrier, 1 singleton; by default 'nks' if there are more
%                           antennas than users, else an error
%     options.Convention    'hermitian' or 'direct'; by default 'direct' for users or receive antennas in rows (k or r
%                           before n) and for a 1 before n, else 'hermitian', as nflae precode reads files
%
%   With an axis r, H is N x R x K x S.

  if ~(isa(H, 'single') || isa(H, 'double')) || issparse(H)
    kind = class(H);
    if issparse(H)
      kind = 'sparse, use full(H)';
    end
    error('nflae:badRequest', 'H must be a complex single or double array, got %s', kind);
  end
  if isempty(H)
    error('nflae:badRequest', 'H is empty (%s): it must be antennas x users x drops', sizes(H));
  end
  if isreal(H)
    error('nflae:badRequest', ['H is real, and channels are complex. If all imaginary parts are zero,' ...
      ' call precode(complex(H), ...)']);
  end

  if isfield(options, 'Layout')
    layout = lower(nflae.internal.text(options.Layout, 'Layout'));
  elseif ndims(H) > 3
    error('nflae:badRequest', ['H has %d axes (%s): name them, one letter each, as in ''Layout'', ''nkfs'' (antennas x' ...
      ' users x subcarriers x drops) or ''rnks'' (receive antennas first)'], ndims(H), sizes(H));
  elseif size(H, 2) < size(H, 1) || numel(H) == 1
    layout = 'nks';
  else
    error('nflae:badRequest', ['H is %s: as antennas x users x drops it has as many users as antennas, or more.' ...
      ' Pass ''Layout'', ''kns'' for users x antennas x drops (y = H * x), or ''nks'' if that is correct'], sizes(H));
  end
  H = permuted(H, layout);
  before = layout(1:find(layout == 'n', 1) - 1);
  if any(ismember(before, 'kr1')) || (~any(layout == 'k') && any(ismember(before, 'sf')))
    convention = 'direct';
  else
    convention = 'hermitian';
  end
  if isfield(options, 'Convention')
    convention = lower(nflae.internal.text(options.Convention, 'Convention'));
  end
end

function H = permuted(H, layout)
% Permute H to N x K x S, or with receive antennas to N x R x K x S.
  extents = size(H);
  named = all(ismember(layout, 'nkrsf1')) && any(layout == 'n') && sum(layout == 'k') <= 1 && ...
    sum(layout == 'r') <= 1 && sum(layout == 'f') <= 1;
  if named && numel(layout) < numel(extents) && numel(layout) == 1 && extents(2) == 1
    extents = extents(1);
  end
  if ~named || numel(layout) < numel(extents)
    error('nflae:badRequest', ['Layout must name each of the %d axes of H (%s) by one letter: n (antenna), k (user),' ...
      ' r (receive antenna), s (drop), f (subcarrier), 1 (length one), e.g. ''nks'' or ''kns'', got ''%s'''], ...
      ndims(H), sizes(H), layout);
  end
  extents(end + 1:numel(layout)) = 1;
  if any(extents(layout == '1') ~= 1)
    error('nflae:badRequest', 'Layout ''%s'' names 1 an axis of H (%s) that is longer', layout, sizes(H));
  end
  place = @(letters) find(ismember(layout, letters));
  count = @(letters) prod(extents(place(letters)));
  order = [place('n'), place('r'), place('k'), place('sf'), place('1')];
  if numel(order) > 1
    H = permute(H, order);
  end
  if any(layout == 'r')
    H = reshape(H, count('n'), count('r'), count('k'), []);
  else
    H = reshape(H, count('n'), count('k'), []);
  end
end

function text = sizes(H)
  text = strjoin(strsplit(num2str(size(H))), ' x ');
end
