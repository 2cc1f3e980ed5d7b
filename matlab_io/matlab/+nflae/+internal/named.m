function options = named(arguments, known)
% NAMED  Convert name-value arguments to a struct.
%
%   options = named(arguments, known) takes a cell of names and values, and a cell of the names that exist; the fields
%   are spelled as in known. Names are case-insensitive.

  if mod(numel(arguments), 2) ~= 0
    error('nflae:badRequest', 'options come in pairs of a name and a value, as in ''%s'', value', known{1});
  end
  options = struct();
  for i = 1:2:numel(arguments)
    name = nflae.internal.text(arguments{i}, 'the name of an option');
    index = find(strcmpi(name, known));
    if isempty(index)
      error('nflae:badRequest', 'unknown option ''%s'': expected one of %s', name, strjoin(known, ', '));
    elseif isfield(options, known{index})
      error('nflae:badRequest', 'option ''%s'' is given twice', name);
    end
    options.(known{index}) = arguments{i + 1};
  end
end
