function value = text(value, name)
% TEXT  Convert characters or a MATLAB string to a row of characters.
%
%   value = text(value, name); name is used in the error.

  if isstring(value) && isscalar(value)
    value = char(value);
  end
  if ~ischar(value) || size(value, 1) ~= 1
    error('nflae:badRequest', '%s must be text in quotes, got %s', name, class(value));
  elseif any(value < 32)
    error('nflae:badRequest', '%s must be text without line ends and other control characters', name);
  end
end
