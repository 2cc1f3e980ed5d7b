classdef Client < handle
% nflae.Client  Request precoders from a running nflae server.
%
%   c = nflae.Client('tcp://127.0.0.1:5555')       % address of `nflae serve`
%   r = c.precode(H, 'NoisePower', 0.01)           % H: complex, N x K x S: antennas, users, drops
%   x = r.precoder(:, :, 1) * (sqrt(r.power(:, 1)) .* s)
%
%   r is a struct with the variables of a result file of `nflae precode`:
%     precoder          N x K x S complex single   unit-norm precoding vectors w_k
%     power             K x S double               transmit powers P_k, W
%     lambda            K x S double               dual uplink powers lambda_k (optimal structure); NaN where unused, W
%     near_field_score  K x S double               near-field score in [0, 1]; 0.5 in files: undecided, not a single spherical wave
%     near_field        K x S logical              near-field labels, by which C3 is counted
%     sinr              K x S double               SINR, linear
%     rate              K x S double               rates log2(1 + SINR), bps/Hz
%     sum_rate          1 x S double               sum of the rates of all users, bps/Hz
%     feasible          1 x S logical              every user reaches the minimum rate (C4)
%     fallback          1 x S logical              a classical scheme's result, better than the network's, is returned
%     nflae_info        struct                     scheme, model, link budget, layout, convention, timing_us
%
%   r = c.precode(H, name, value, ...); names are case-insensitive:
%     'Power' or 'PowerDbw'         transmit power, W or dBW                        (1 W)
%     'NoisePower' or 'NoiseDbw'    noise power of every user, W or dBW             (0.01 W)
%     'AlphaC'                      largest share of the power for near-field users (1)
%     'MinRate'                     minimum rate of every user, bps/Hz              (0)
%     'Scheme'                      'nflae', 'ldma', 'mrt', 'noma', 'rzf', 'sdma',
%                                   'wmmse' or 'zf'                                 ('nflae')
%     'Refine'                      WMMSE iterations after the network              (0)
%     'Effort'                      'fast', 'balanced' or 'best': model and iterations in place of the server's model
%                                   and of 'Refine'                                 (the server's model)
%     'Layout'                      one letter per axis of H: n antenna (nn panel), k user, r receive antenna,
%                                   s drop, f subcarrier, 1 singleton; e.g. 'kns'   ('nks' if there are more
%                                   antennas than users; else required)
%     'ReceiveAntennas'             with an axis r: 'each' antenna a user, the 'strongest' one, 'eigen', combined by
%                                   r.receive_combiner, R x K x S, or 'joint', combined together with the precoder
%     'Convention'                  'hermitian': y = H' * x, N x K; 'direct': y = H * x, K x N; with 'nks'
%                                   'direct' means y = H.' * x                      (by the layout)
%     'NearField'                   K x S labels to be used for C3, or a panel of which waves are fitted,
%                                   'upa:16x16'                                     (found by the scheme)
%     'Want'                        cell of the variables to send back; fewer take less time. Of {'lambda', 'power'} the
%                                   client forms r.precoder itself, unless lambda is NaN, receive antennas are combined
%                                   or the problem is another one than the sum rate (all)
%     'Timeout'                     time limit of this call, s                      (the client's)
%   and those of other problems than the sum rate under one total power, as `nflae precode` has them:
%     'Objective', 'Window'         'sum-rate', 'max-min', or 'proportional-fair' over so many drops ('sum-rate', 1)
%     'Weights'                     weights of the users' rates, K or K x S         (equal)
%     'PowerPerAntenna', 'AntennaGroups'   limits, W, one or N; antennas per group  (none)
%     'RfChains', 'PhaseBits', 'Connection'   hybrid array, 'full' or 'sub': r has analog, N x C x S, and digital,
%                                   C x K x S                                       (fully digital)
%     'Streams'                     M streams per user with 'joint'; M > 1 adds an axis of streams before that of users
%                                   to precoder, power, lambda, sinr, rate, receive_combiner and digital (all)
%     'PowerScope'                  'each' subcarrier has the power, or 'total': all subcarriers of a snapshot together,
%                                   with 'Layout', 'nkfs'                           ('each')
%
%   c = nflae.Client(address, name, value, ...):
%     'Timeout'                     time limit of a call, including loss and return of the server, s (30)
%     'Transport'                   'octave' (package zeromq), 'python' (MATLAB's, with pyzmq), 'jeromq' (its jar on
%                                   the Java path) or 'auto'
%     'ServerKey', 'PublicKey', 'SecretKey'   CURVE keys, 40 characters each; or
%     'ServerKeyFile', 'KeyFile'              files of `nflae keys`: the server's .key, the client's .key_secret
%
%   r = c.predict(h, name, value, ...) predicts the next channels from the last ones: h is an nflae.History or N x K x P
%   snapshots, oldest first, evenly spaced; NaN in gaps. r has H (N x K x A; K x N x A with 'kns'), csi_error_db and
%   method (K x A; indices into r.nflae_info.methods), and nflae_info, whose notes say what was filled or resampled:
%     'Ahead'                       number A of snapshots to predict, at most half of P (4)
%     'Method'                      name of a method                                ('auto')
%     'Geometry'                    'none', 'line' or 'panel:ROWSxCOLUMNS'          ('none')
%     'CsiSnrDb'                    SNR per antenna of the snapshots, dB            (estimated)
%     'Times'                       times of the snapshots, s                       (evenly spaced)
%     'Force'                       true: predict what does not look like a sequence, too
%     'Then'                        'precode': r has the precoders for the predicted channels too; further options as
%                                   for precode, labels K x A
%     'Layout', 'Convention', 'Timeout'  as for precode
%
%   r = c.track(H, t, name, value, ...) follows the users of a linear array through snapshots: H is N x K x S (NaN where
%   missing), t their times, s. r.track continues the track in the next call, 'Track', r.track. r has x, height,
%   position_std, angle_deg, angle_std_deg, distance, distance_resolved, in_sight, beam, all K x S, next_beams,
%   3 x K x A x S, and the sources of these figures, indices into r.nflae_info.sources and beam_sources:
%     'Powers'                      true: H is B x K x S linear beam powers           (false)
%     'Gps'                         2 x K x S, x and height, m; NaN where missing     (none)
%     'Detections'                  2 x D x S, angle, degrees, and distance, m, of objects seen by another sensor (none)
%     'ArrayHeight', 'TiltDeg', 'CarrierGhz', 'BeamAnglesDeg', 'Ahead'   of a new track (0, 0, 30, even in the sine, 3)
%     'Geometry'                    of a new track: 'line', no other                  ('line')
%     'Layout', 'Convention', 'Timeout'   as for precode; required of a track in every call
%
%   s = c.status() is a struct with the state of the server. c.close() closes the connection.
%
%   Errors have identifiers: nflae:badRequest, nflae:badChannels, nflae:tooLarge, nflae:busy, nflae:expired,
%   nflae:stopping, nflae:noTrack, nflae:internal (replies of the server), nflae:timeout (no reply), nflae:badReply, nflae:badKey,
%   nflae:noTransport. A server that is lost and returns within the timeout costs time but raises no error; a result
%   always belongs to its request.
%
%   A loop over slots with a new channel each:
%
%     c = nflae.Client();
%     for slot = 1:1000
%       H = next_channel();
%       r = c.precode(H, 'NoisePower', 0.01, 'Want', {'precoder', 'power'});
%       y = H' * (r.precoder * (sqrt(r.power) .* next_symbols())) + noise();
%     end
%
%   Tested in GNU Octave 7; written for MATLAB too, not tested there.

  properties (SetAccess = private)
    address
    timeout
  end

  properties (Access = private)
    transport
    calls = 0;
    connected = false;   % the server has answered every call since the first
    largest_frame = Inf; % bytes; limit of the server, once it is known
  end

  properties (Constant, Access = private)
    PROBE_SECONDS = 1;
    PAUSE_SECONDS = 0.1;
    RESEND_SHARE = 1 / 2;
    HEADER_BYTES = 65536;
  end

  methods
    function self = Client(address, varargin)
      if nargin < 1
        address = 'tcp://127.0.0.1:5555';
      end
      options = nflae.internal.named(varargin, {'Timeout', 'Transport', 'ServerKey', 'PublicKey', 'SecretKey', ...
        'KeyFile', 'ServerKeyFile'});
      self.address = nflae.internal.text(address, 'the address');
      self.timeout = 30;
      if isfield(options, 'Timeout')
        self.timeout = nflae.internal.positive(options.Timeout, 'Timeout', 1e6);
      end
      self.transport = nflae.transport.open(self.address, options);
    end

    function result = precode(self, H, varargin)
      % PRECODE  Request precoders, powers and labels for the channels H; see help nflae.Client.
      started = tic;
      [header, payload, seconds, layout, channels] = nflae.internal.precode_request(H, varargin);
      if isempty(seconds)
        seconds = self.timeout;
      end
      [reply, result] = self.exchange(header, payload, seconds);
      info = reply.info;
      if isfield(result, 'lambda') && ~isfield(result, 'precoder') && ~isempty(channels) && ...
          ~isfield(info, 'problem') && ~any(isnan(result.lambda(:)))
        result.precoder = nflae.internal.form_precoder(channels, result.lambda, info.noise_power);
      end
      info.layout = layout;
      info.timing_us = reply.timing_us;
      info.timing_us.round_trip = round(1e6 * toc(started));
      result.nflae_info = info;
    end

    function result = predict(self, history, varargin)
      % PREDICT  Request the channels after a history, and precoders for them; see help nflae.Client.
      started = tic;
      [header, payload, seconds, layout] = nflae.internal.predict_request(history, varargin);
      if isempty(seconds)
        seconds = self.timeout;
      end
      [reply, result] = self.exchange(header, payload, seconds);
      if isfield(result, 'H') && find(layout == 'k') < find(layout == 'n', 1)
        result.H = permute(result.H, [2, 1, 3]);
      end
      info = reply.info;
      info.layout = layout;
      info.timing_us = reply.timing_us;
      info.timing_us.round_trip = round(1e6 * toc(started));
      result.nflae_info = info;
    end

    function result = track(self, measured, times, varargin)
      % TRACK  Follow users through further snapshots; see help nflae.Client.
      if nargin < 3
        error('nflae:badRequest', 'times are missing: track(H, t, ...) takes one time per snapshot, s');
      end
      [header, payload, seconds] = nflae.internal.track_request(measured, times, varargin);
      if isempty(seconds)
        seconds = self.timeout;
      end
      [reply, result] = self.exchange(header, payload, seconds);
      result.track = reply.info.track;
      result.nflae_info = reply.info;
      result.nflae_info.timing_us = reply.timing_us;
    end

    function found = status(self)
      % STATUS  Request the state of the server: a struct with version, model, uptime_s, queue_depth, counts, ...
      reply = self.exchange(struct('v', 1, 'id', '', 'op', 'status'), {}, self.timeout);
      found = reply.status;
    end

    function close(self)
      % CLOSE  Close the connection; the client cannot be used afterwards.
      if ~isempty(self.transport)
        self.transport.close();
        self.transport = [];
      end
    end

    function delete(self)
      self.close();
    end
  end

  methods (Access = private)
    function [reply, arrays] = exchange(self, header, payload, seconds)
    % Send a request until its own reply arrives, and return the arrays of the reply.
    %
    % A request sent to a server that has stopped since is lost without notice, and Octave's ZeroMQ package cannot
    % discard messages queued for an absent server. So nothing large is sent before the server has answered a small
    % status request, and another is sent per second without a reply: its answer shows that the server is running,
    % and by the server's uptime whether it can have received the request. If not, the request is sent again; once
    % more after half of the time, in case only the connection was lost. Without payload the status request is all.
      if isempty(self.transport)
        error('nflae:badRequest', 'the client is closed; make a new one: c = nflae.Client(''%s'')', self.address);
      end
      started = tic;
      self.calls = self.calls + 1;
      header.id = sprintf('%d', self.calls);
      probe = struct('v', 1, 'id', [header.id '-status'], 'op', 'status');
      arrays = struct();
      refusal = [];   % reply of a server that is stopping
      alive = false;  % the server has answered during this call
      sent_at = -Inf;
      probe_at = 0;   % time of the next status request, s
      if self.connected && ~isempty(payload)
        self.require_size(payload);
        sent_at = self.send_request(header, payload, started, seconds);
        probe_at = self.PROBE_SECONDS;
      end

      while true
        now_is = toc(started);
        if now_is >= seconds
          self.connected = false;
          if ~isempty(refusal)
            nflae.internal.raise(refusal);
          end
          self.raise_timeout(alive, payload, seconds);
        end
        if now_is >= probe_at
          self.transport.send({nflae.wire.encode_header(probe)});
          probe_at = now_is + self.PROBE_SECONDS;
        end
        self.transport.receive_rest([]);  % the arrays of an outdated reply
        frame = self.transport.receive(1e3 * (min(seconds, probe_at) - now_is), self.HEADER_BYTES);
        if isempty(frame)
          continue
        end
        reply = nflae.wire.decode_header(frame);
        if strcmp(reply.id, header.id)
          if ~reply.ok && strcmp(reply.error.code, 'stopping')  % another server may replace it in time
            refusal = reply;
            sent_at = -Inf;
            probe_at = toc(started) + self.PAUSE_SECONDS;
            continue
          end
          nflae.internal.raise(reply);
          bytes = nflae.wire.frame_bytes(reply);
          arrays = nflae.wire.decode_arrays(reply, self.transport.receive_rest(bytes), bytes);
          return
        elseif isempty(reply.id) && ~reply.ok  % the server could not read a message of this client
          nflae.internal.raise(reply);
        elseif ~strcmp(reply.id, probe.id)
          continue
        end

        alive = true;
        self.connected = true;
        heard_at = toc(started);
        probe_at = heard_at + self.PROBE_SECONDS;
        nflae.internal.raise(reply);
        if isfield(reply.status, 'max_message_bytes')
          self.largest_frame = reply.status.max_message_bytes;
        end
        if isempty(payload)
          return
        end
        self.require_size(payload);
        silence = heard_at - sent_at;
        if reply.status.stopping
          probe_at = heard_at + self.PAUSE_SECONDS;
        elseif reply.status.uptime_s < silence || silence > self.RESEND_SHARE * seconds
          sent_at = self.send_request(header, payload, started, seconds);
        end
      end
    end

    function sent_at = send_request(self, header, payload, started, seconds)
    % Send a request and return the time, or -Inf if the queue to a lost server is full.
      header.deadline_ms = max(1, round(1e3 * (seconds - toc(started))));
      sent_at = -Inf;
      if self.transport.send([{nflae.wire.encode_header(header)}, payload])
        sent_at = toc(started);
      end
    end

    function require_size(self, payload)
      bytes = numel(payload{1});
      if bytes > self.largest_frame
        error('nflae:tooLarge', ...
          'H has %.1f MB, and the server accepts %.1f MB per request: send fewer drops at a time', ...
          bytes / 2^20, self.largest_frame / 2^20);
      end
    end

    function raise_timeout(self, alive, payload, seconds)
      if alive && ~isempty(payload)
        error('nflae:timeout', ['no precoders from %s within %g s, although it is running: raise ''Timeout'', or' ...
          ' send less than %.1f MB (its limit is --max-message-mb)'], ...
          self.address, seconds, numel(payload{1}) / 2^20);
      end
      if self.transport.listens()
        error('nflae:timeout', ['no answer from %s within %g s, although a program listens there: is it `nflae serve`?' ...
          ' A server with keys does not answer clients without the right ones'], self.address, seconds);
      end
      error('nflae:timeout', ['no answer from %s within %g s: nothing listens there; start `nflae serve` there, or' ...
        ' give its address'], self.address, seconds);
    end
  end
end
