function value = text(value, what)
% TEXT  value as a row of characters, from that or from a MATLAB string; what names it in the error otherwise.

  if isstring(value) && isscalar(value)
    value = char(value);
  end
  if ~ischar(value) || size(value, 1) ~= 1
    error('nflae:badRequest', '%s has to be text in quotes, got %s', what, class(value));
  end
end
