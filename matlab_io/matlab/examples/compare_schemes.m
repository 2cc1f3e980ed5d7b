% Compare schemes on channels of a scenario: near-field users of a 128-antenna array, 30 GHz.

channels = nflae.simulate('Antennas', 128, 'Users', 6, 'Drops', 20, 'Seed', 7);
schemes = {'rzf', 'nflae'};          % also 'wmmse', 'zf', 'mrt', 'sdma', 'ldma'
for i = 1:numel(schemes)
  result = nflae.precode(channels.H, 'Layout', 'nks', 'Scheme', schemes{i}, 'SnrDb', 15);
  fprintf('%-6s %.2f bps/Hz, %.2f in the worst drop\n', schemes{i}, mean(result.sum_rate), min(result.sum_rate));
end
