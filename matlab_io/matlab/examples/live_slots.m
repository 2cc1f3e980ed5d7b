% Precode slot by slot with a running server: type `nflae serve` in a terminal first.
%
% The channel changes every slot, and the precoder is for the channel of the slot before.

client = nflae.Client();             % tcp://127.0.0.1:5555
antennas = 64;  users = 4;  slots = 50;  noise_power = 0.01;  correlation = 0.99;
fading = @() (randn(antennas, users) + 1i * randn(antennas, users)) / sqrt(2 * antennas);
H = fading();
expected = zeros(1, slots);  reached = zeros(1, slots);  milliseconds = zeros(1, slots);
for slot = 1:slots
  started = tic;
  result = client.precode(H, 'NoisePower', noise_power, 'Want', {'precoder', 'power', 'sum_rate'});
  milliseconds(slot) = 1e3 * toc(started);
  H = correlation * H + sqrt(1 - correlation ^ 2) * fading();
  received = abs(H' * double(result.precoder)) .^ 2 * diag(result.power);
  wanted = diag(received);
  expected(slot) = result.sum_rate;
  reached(slot) = sum(log2(1 + wanted ./ (sum(received, 2) - wanted + noise_power)));
end
client.close();
fprintf('%.1f bps/Hz, %.1f if the channels were not a slot old; median call %.1f ms\n', mean(reached), ...
  mean(expected), median(milliseconds));
