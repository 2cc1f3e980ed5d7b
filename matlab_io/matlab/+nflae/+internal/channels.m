function [H, layout, convention] = channels(H, options)
% CHANNELS  Permute channels to N x K x S and determine their layout and convention.
%
%   [H, layout, convention] = channels(H, options) takes complex channels and a struct of options:
%
%     options.Layout        'nks' or 'kns'; by default 'nks' if there are more antennas than users, else an error
%     options.Convention    'hermitian' or 'direct'; by default 'hermitian' for users in columns ('nks'), 'direct' for
%                           users in rows ('kns'), as nflae precode reads files

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
  if ndims(H) > 3
    error('nflae:badRequest', ['H has %d axes (%s): antennas x users x drops are expected; subcarriers are drops,' ...
      ' reshape(H, size(H, 1), size(H, 2), [])'], ndims(H), sizes(H));
  end

  if isfield(options, 'Layout')
    layout = lower(nflae.internal.text(options.Layout, 'Layout'));
  elseif size(H, 2) < size(H, 1) || numel(H) == 1
    layout = 'nks';
  else
    error('nflae:badRequest', ['H is %s: as antennas x users x drops it has as many users as antennas, or more.' ...
      ' Pass ''Layout'', ''kns'' for users x antennas x drops (y = H * x), or ''nks'' if that is correct'], sizes(H));
  end
  switch layout
    case 'nks'
      convention = 'hermitian';
    case 'kns'
      convention = 'direct';
      H = permute(H, [2, 1, 3]);
    otherwise
      error('nflae:badRequest', 'Layout must be ''nks'' (N x K x S) or ''kns'' (K x N x S), got ''%s''', layout);
  end
  if isfield(options, 'Convention')
    convention = lower(nflae.internal.text(options.Convention, 'Convention'));
  end
end

function text = sizes(H)
  text = strjoin(strsplit(num2str(size(H))), ' x ');
end
