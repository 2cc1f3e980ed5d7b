%[text] # Getting started with nflae-bridge
%[text] Channels in, precoders, powers and near-field labels out. The program *nflae* does the work: install the Python
%[text] package, and start MATLAB or Octave where `nflae --help` runs.
%[text] ## Channels
%[text] Draw channels of a 64-antenna array and 4 users, or take your own: N x K x S, antennas, users and drops.
channels = nflae.simulate('Antennas', 64, 'Users', 4, 'Drops', 3, 'Seed', 1);
size(channels.H)
%[text] ## Precoders
%[text] Every option of `nflae precode --help` has its name here: *NoisePower*, *Scheme*, *RfChains*.
result = nflae.precode(channels.H, 'Layout', 'nks', 'Power', 1, 'NoisePower', 0.01);
disp(result.nflae_info.report)
%[text] ## Check
%[text] Rates by hand, of the first drop: y = H' \* W \* diag(sqrt(p)) \* s + n.
received = abs(channels.H(:, :, 1)' * result.precoder(:, :, 1)) .^ 2 * diag(result.power(:, 1));
wanted = diag(received);
rates = log2(1 + wanted ./ (sum(received, 2) - wanted + 0.01));
fprintf('sum rate %.2f bps/Hz, by hand %.2f\n', result.sum_rate(1), sum(rates));
%[text] ## In a loop
%[text] Each call above starts the program. In a loop over slots take *nflae.Client* with a running `nflae serve`: see
%[text] *examples/live_slots.m* and `help nflae.Client`.

%[appendix]{"version":"1.0"}
%---
%[metadata:view]
%   data: {"layout":"inline"}
%---
