function result = predict(H, varargin)
% nflae.predict  Predict the channels after snapshots, without a server.
%
%   r = nflae.predict(H, 'Ahead', 4, 'History', 16)     % H: complex, N x K x P snapshots in order
%
%   r is a struct with the variables of a result file of `nflae predict`: H, N x K x A, the A snapshots after the last
%   one (K x N x A if H has users in rows, as with 'Layout', 'kns'), csi_error_db and method, K x A, and nflae_info.
%
%   r = nflae.predict(H, name, value, ...): every option of `nflae predict --help`, spelt as nflae.precode has them:
%     'Ahead', 'History'            snapshots to predict, and from which is predicted   (4, 16)
%     'Method', 'Geometry'          --method, --geometry                                ('auto', 'none')
%     'CsiSnrDb'                    SNR per antenna of the snapshots, dB                (estimated)
%     'Times'                       times of the snapshots, s                           (evenly spaced)
%     'Rolling'                     true: predict for every snapshot of H
%
%   See also nflae.precode, nflae.Client.
%
%   Tested in GNU Octave 7; written for MATLAB too, not tested there.

  result = nflae.program.run('predict', struct('H', H), varargin);
end
