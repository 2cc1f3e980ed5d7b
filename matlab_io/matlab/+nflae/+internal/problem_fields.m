function [header, frames] = problem_fields(header, options, layout, extents, users, drops)
% PROBLEM_FIELDS  Add the fields of a precoding problem beyond one total power to the header of a request.
%
%   [header, frames] = problem_fields(header, options, layout, extents, users, drops) takes the header, a struct of the
%   options of nflae.Client.precode, the layout and the size of H before its axes are permuted, and the numbers of users
%   and drops. frames is a cell of the uint8 rows that follow the channels and labels: weights of every drop, if given.

  frames = {};
  texts = {'Objective', 'objective'; 'Connection', 'connection'; 'PowerScope', 'power_scope'};
  for row = 1:size(texts, 1)
    if isfield(options, texts{row, 1})
      header.(texts{row, 2}) = lower(nflae.internal.text(options.(texts{row, 1}), texts{row, 1}));
    end
  end
  numbers = {'Window', 'window'; 'AntennaGroups', 'antenna_groups'; 'RfChains', 'rf_chains'; ...
    'PhaseBits', 'phase_bits'; 'Streams', 'streams'};
  for row = 1:size(numbers, 1)
    if isfield(options, numbers{row, 1})
      header.(numbers{row, 2}) = nflae.internal.number(options.(numbers{row, 1}), numbers{row, 1});
    end
  end
  if isfield(options, 'PowerPerAntenna')
    header.power_per_antenna = reals(options.PowerPerAntenna, 'PowerPerAntenna');
  end
  if isfield(options, 'Weights')
    weights = reals(options.Weights, 'Weights');
    if isequal(size(options.Weights), [users, drops]) && drops > 1
      header.weights = true;
      frames = {typecast(reshape(double(options.Weights), 1, []), 'uint8')};
    elseif numel(weights) == users
      header.weights = weights;
    else
      error('nflae:badRequest', 'Weights must be %d numbers, one per user, or %d x %d (users x drops), got %s', ...
        users, users, drops, strjoin(strsplit(num2str(size(options.Weights))), ' x '));
    end
  end
  if isfield(header, 'power_scope') && strcmp(header.power_scope, 'total')
    at = find(layout == 'f');
    if isempty(at) || any(layout(1:at) == 's')
      error('nflae:badRequest', ['PowerScope ''total'' needs an axis f of subcarriers in Layout, before the drops s, as' ...
        ' in ''nkfs'', got ''%s''; permute H'], layout);
    end
    extents(end + 1:numel(layout)) = 1;
    header.subcarriers = extents(at);
  end
end

function values = reals(values, name)
  if ~isnumeric(values) || ~isreal(values) || isempty(values) || ~all(isfinite(values(:)))
    error('nflae:badRequest', '%s must be finite real numbers, got %s', name, class(values));
  end
  values = reshape(double(values), 1, []);
end
