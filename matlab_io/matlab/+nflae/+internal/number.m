function value = number(value, name)
% NUMBER  Convert a value to a finite real double scalar.
%
%   value = number(value, name); name is used in the error.

  if ~isnumeric(value) || ~isscalar(value) || ~isreal(value) || ~isfinite(value)
    error('nflae:badRequest', '%s must be one finite number', name);
  end
  value = double(value);
end
