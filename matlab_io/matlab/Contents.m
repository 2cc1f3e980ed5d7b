% nflae-bridge: near-field multi-user precoding for XL-MIMO arrays
% Version 0.1.0 27-Nov-2026
%
% Without a server, through the program nflae
%   nflae.precode      - Compute precoders, powers and labels for channels, without a server.
%   nflae.predict      - Predict the channels after snapshots, without a server.
%   nflae.simulate     - Draw channels of a scenario, without a server.
%
% With a running server, `nflae serve`, in milliseconds a call
%   nflae.Client       - Request precoders from a running nflae server.
%   nflae.History      - Keep the last snapshots of the channels.
%
% Checks
%   nflae_check_rates  - Recompute the rates in a result of nflae precode from the channels.
%
% Examples, in the folder examples
%   compare_schemes    - Compare schemes on channels of a scenario.
%   live_slots         - Precode slot by slot with a running server.
%   predict_slots      - Precode for channels that are predicted.
%
% gettingStarted is a live script, and runs as a script in Octave.
