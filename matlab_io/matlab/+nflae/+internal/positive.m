function value = positive(value, what)
% POSITIVE  value as a positive double; what names it in the error otherwise.

  value = nflae.internal.number(value, what);
  if value <= 0
    error('nflae:badRequest', '%s has to be positive, got %g', what, value);
  end
end
