% Precode for channels that are predicted, with a running server: type `nflae serve` in a terminal first.
%
% Four users move; their noisy channels arrive two slots before their precoders are used.

client = nflae.Client();             % tcp://127.0.0.1:5555
antennas = 64;  ahead = 2;  noise = 0.1;
angles = linspace(-0.8, 0.8, 4);  speeds = [0.02, -0.03, 0.05, 0.01];      % wavelengths per slot
channel = @(slot) exp(1i * pi * (0:antennas - 1).' * angles) .* exp(2i * pi * slot * speeds);
history = nflae.History(16, ahead);
for slot = 1:20
  H = channel(slot);
  last = H + noise * (randn(size(H)) + 1i * randn(size(H)));
  history.push(last);
end
result = client.predict(history, 'Ahead', ahead, 'Geometry', 'line', 'Then', 'precode', 'NoisePower', 0.1);
client.close();
next = channel(slot + ahead);
error_db = @(estimate) 20 * log10(norm(estimate - next, 'fro') / norm(next, 'fro'));
fprintf('CSI error: %.1f dB predicted, %.1f dB held; precoders for slots %d to %d\n', ...
  error_db(double(result.H(:, :, ahead))), error_db(last), slot + 1, slot + ahead);
