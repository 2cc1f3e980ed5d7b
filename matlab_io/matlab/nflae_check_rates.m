function [max_error, rates] = nflae_check_rates(channel_file, result_file)
% NFLAE_CHECK_RATES  Recompute the rates in a result of nflae precode from the channels.
%
%   max_error = nflae_check_rates(channel_file, result_file) loads the channels, and the precoders and powers computed
%   for them, and returns the largest absolute difference, bps/Hz, between the rates in the result and
%
%     SINR_k = p_k |h_k' w_k|^2 / (sum over j ~= k of p_j |h_k' w_j|^2 + noise_power),  R_k = log2(1 + SINR_k)
%
%   with the noise power of the result, one number or one per user or drop.
%
%   [max_error, rates] = nflae_check_rates(channel_file, result_file) also returns the recomputed rates, with the size
%   of rate in the result; with several streams per user, each stream is such a user. Skipped drops have NaN in both
%   and are left out of max_error. Results of noma are an error:
%   its rates require receivers that cancel other users' messages (SIC) before they decode their own. So are results
%   for channels named by an expression (--var 'H{:}'), as the check loads one variable or field.
%
%   Needs no toolbox. Tested in GNU Octave 7; written for MATLAB too, not tested there.

  result = load(result_file, 'precoder', 'power', 'rate', 'nflae_info');
  info = result.nflae_info;
  if isfield(info, 'receiver') && strcmp(char(info.receiver(:).'), 'sic')
    error('nflae:receiver', ['the rates in %s are those of receivers with SIC, not of this formula: check a result ' ...
          'of a scheme other than %s'], result_file, char(info.scheme(:).'));
  end

  % char, because Octave loads the strings of a -v7.3 file as numbers.
  layout = char(info.layout(:).');
  convention = char(info.convention(:).');
  variable = char(info.variable(:).');
  if any(ismember(variable, '{}(),:'))
    error('nflae:variable', '%s is an expression: check results for channels in one variable or field', variable);
  end
  path = strsplit(variable, '.');
  H = load(channel_file, path{1});
  for field = 1:numel(path)
    H = H.(path{field});
  end
  H = antennas_receive_users_drops(double(H), layout);
  if strcmp(convention, 'direct')
    H = conj(H);  % the rows of a direct H are h_k'
  end
  [antennas, receive, users, drops] = size(H);
  result_fields = whos('-file', result_file);
  if any(strcmp({result_fields.name}, 'receive_combiner'))
    loaded = load(result_file, 'receive_combiner');
    streams = numel(loaded.receive_combiner) / (receive * users * drops);
    combiner = reshape(double(loaded.receive_combiner), 1, receive, streams, users, drops);
    H = reshape(H, antennas, receive, 1, users, drops);
    H = sum(bsxfun(@times, H, combiner), 2);  % h_k is the sum of u_kr h_kr, one per stream
    users = streams * users;
  else
    users = receive * users;  % every receive antenna is a user
  end
  H = reshape(H, antennas, users, drops);

  W = reshape(double(result.precoder), antennas, users, drops);
  p = reshape(double(result.power), users, drops);
  noise = reshape(ones(size(result.rate)) .* double(info.noise_power), users, drops);
  rates = zeros(users, drops);
  for drop = 1:drops
    received = abs(H(:, :, drop)' * W(:, :, drop)).^2 * diag(p(:, drop));  % (k, j): power of stream j at user k
    wanted = diag(received);
    interference = sum(received - diag(wanted), 2);
    rates(:, drop) = log2(1 + wanted ./ (interference + noise(:, drop)));
  end
  rates = reshape(rates, size(result.rate));
  max_error = max(abs(rates(:) - result.rate(:)));
end

function H = antennas_receive_users_drops(H, layout)
% Permute H to N x R x K x drops, drops in linear order over the s and f axes; layout has one letter per axis of H.
  sizes = ones(1, max(numel(layout), 2));
  sizes(1:ndims(H)) = size(H);
  order = [find(layout == 'c'), find(layout == 'n'), find(layout == 'r'), find(layout == 'k'), ...
           find(layout == 's' | layout == 'f')];
  rest = setdiff(1:numel(sizes), order);
  count = @(letter) prod(sizes(layout == letter));
  H = reshape(permute(H, [order, rest]), count('c'), count('n'), count('r'), count('k'), []);
  if any(layout == 'c')
    H = complex(H(1, :, :, :, :), H(2, :, :, :, :));
  end
  H = reshape(H, count('n'), count('r'), count('k'), []);
end
