function bytes = encode_header(header)
% ENCODE_HEADER  Encode the header of a request as JSON in UTF-8.
%
%   bytes = encode_header(header) takes a struct and gives a uint8 row. jsonencode is not used: Octave's writes 4e-20 as
%   0, MATLAB's writes 15 digits, and neither distinguishes a list of one from its element. With 17 digits the server
%   receives the exact double, and a cell is always a list.

  names = fieldnames(header);
  text = '{';
  for i = 1:numel(names)
    if isnumeric(header.(names{i})) && ~all(isfinite(header.(names{i})(:)))
      error('nflae:badRequest', '%s must be finite', names{i});  % there is no such number in JSON
    end
    text = [text, '"', names{i}, '":', json(header.(names{i})), ',']; %#ok<AGROW> a dozen at most
  end
  text(end) = '}';
  bytes = unicode2native(text, 'UTF-8');
  if numel(bytes) > 65536
    error('nflae:badRequest', 'the options have %d bytes, and a server reads 65536: give shorter texts or lists', ...
      numel(bytes));
  end
end

function text = json(value)
  if ischar(value)
    text = jsonencode(value);
  elseif iscell(value)
    text = '[';
    for i = 1:numel(value)
      text = [text, jsonencode(value{i}), ',']; %#ok<AGROW> ten at most
    end
    text(end) = ']';
  elseif islogical(value)
    choices = {'false', 'true'};
    text = choices{1 + value};
  else
    text = sprintf('%.17g,', value);
    text(end) = [];
    if ~isscalar(value)
      text = ['[', text, ']'];
    end
  end
end
