function precoder = form_precoder(H, lambda, noise_power)
% FORM_PRECODER  Form the precoding vectors of the optimal structure from the dual uplink powers.
%
%   precoder = form_precoder(H, lambda, noise_power) takes channels h_k in columns, N x K x S, lambda, K x S, W, and the
%   noise power, W. Column k is that of H (I + diag(lambda) H' H / noise_power)^-1, scaled to unit norm; complex single.

  [antennas, users, drops] = size(H);
  precoder = complex(zeros(antennas, users, drops, 'single'));
  for drop = 1:drops
    h = double(H(:, :, drop));
    beams = h / (eye(users) + diag(lambda(:, drop) / noise_power) * (h' * h));
    precoder(:, :, drop) = single(bsxfun(@rdivide, beams, sqrt(sum(abs(beams) .^ 2, 1))));
  end
end
