function value = positive(value, name, most)
% POSITIVE  Convert a value to a positive finite double scalar.
%
%   value = positive(value, name); name is used in the error.
%   value = positive(value, name, most) accepts at most most.

  value = nflae.internal.number(value, name);
  if nargin < 3
    most = Inf;
  end
  if value <= 0
    error('nflae:badRequest', '%s must be positive, got %g', name, value);
  elseif value > most
    error('nflae:badRequest', '%s must be at most %g, got %g', name, most, value);
  end
end
