function result = precode(H, varargin)
% nflae.precode  Compute precoders, powers and labels for channels, without a server.
%
%   r = nflae.precode(H, 'NoisePower', 0.01)       % H: complex, N x K x S: antennas, users, drops
%   x = r.precoder(:, :, 1) * (sqrt(r.power(:, 1)) .* s)
%
%   r is a struct with the variables of a result file of `nflae precode`, as nflae.Client.precode has it;
%   r.nflae_info.report is the text that the program prints: how H was read, the link budget, the model.
%
%   r = nflae.precode(H, name, value, ...): every option of `nflae precode --help`, in MATLAB's spelling. A number or
%   text is the value of the option, true sets an option without a value, and an array is written into the file and
%   named by the option:
%     'NoisePower'                  W, one number, or one per user or drop
%     'Power', 'AlphaC', 'MinRate'  one number each, the power in W
%     'NearField'                   K x S labels, or a panel, 'upa:16x16'
%     'Scheme', 'Model', 'Effort', 'Refine', 'SnrDb'   --scheme, --model, --effort, --refine, --snr-db
%     'Layout', 'Convention'        as for nflae.Client.precode
%     'Weights'                     K or K x S
%     'RfChains', 'PhaseBits'       --rf-chains, --phase-bits
%     'PowerPerAntenna'             limits, W, one or N
%     'Program'                     command that starts nflae, in quotes where its path has spaces
%                                   (getenv('NFLAE_PROGRAM'), or nflae on the path)
%
%   Every call starts the program, which takes some seconds, and passes H in a temporary file. In a loop, nflae.Client
%   takes milliseconds.
%
%   Errors: nflae:badRequest for options that do not fit, nflae:failed with the program's own line, nflae:noProgram.
%
%   Tested in GNU Octave 7; written for MATLAB too, not tested there.

  result = nflae.program.run('precode', struct('H', H), varargin);
end
