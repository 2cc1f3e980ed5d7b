function value = number(value, what)
% NUMBER  value as a finite real double; what names it in the error otherwise.

  if ~isnumeric(value) || ~isscalar(value) || ~isreal(value) || ~isfinite(value)
    error('nflae:badRequest', '%s has to be one finite number', what);
  end
  value = double(value);
end
