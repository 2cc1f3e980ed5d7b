function result = simulate(varargin)
% nflae.simulate  Draw channels of a scenario, without a server.
%
%   c = nflae.simulate('Users', 8, 'Drops', 20, 'Seed', 1)
%   r = nflae.precode(c.H, 'Layout', c.layout, 'Power', c.power, 'NoisePower', c.noise_power)
%
%   c is a struct with the variables of a file of `nflae simulate`: H, N x K x S, layout, the link budget, and the
%   positions of users and array where the scenario has them.
%
%   c = nflae.simulate(name, value, ...): every option of `nflae simulate --help`, spelt as nflae.precode has them.
%
%   See also nflae.precode.
%
%   Tested in GNU Octave 7; written for MATLAB too, not tested there.

  result = nflae.program.run('simulate', struct(), varargin);
end
