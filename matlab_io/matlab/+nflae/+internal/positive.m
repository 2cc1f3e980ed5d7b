function value = positive(value, name)
% POSITIVE  Convert a value to a positive finite double scalar.
%
%   value = positive(value, name); name is used in the error.

  value = nflae.internal.number(value, name);
  if value <= 0
    error('nflae:badRequest', '%s must be positive, got %g', name, value);
  end
end
