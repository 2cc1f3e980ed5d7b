classdef Client < handle
% nflae.Client  Precoders from a running nflae server, for the channels of this moment.
%
%   c = nflae.Client('tcp://127.0.0.1:5555')       % `nflae serve` is running there
%   r = c.precode(H, 'NoisePower', 0.01)           % H: N x K x S complex: antennas, users, drops
%   x = r.precoder(:, :, 1) * (sqrt(r.power(:, 1)) .* s)
%
%   r has the variables that `nflae precode` writes to a file: precoder (N x K x S complex single), power, lambda,
%   near_field_score, sinr, rate (K x S), near_field (K x S logical), sum_rate (1 x S), feasible, fallback
%   (1 x S logical) and nflae_info, in which timing_us tells where the time went.
%
%   r = c.precode(H, name, value, ...), names in any case:
%     'Power' or 'PowerDbw'         power budget, W or dBW                          (1 W)
%     'NoisePower' or 'NoiseDbw'    noise power at a user, W or dBW                 (0.01 W)
%     'AlphaC'                      largest share of the power for near-field users (1)
%     'MinRate'                     what every user must get, bit/s/Hz              (0)
%     'Scheme'                      'nflae', 'mrt', 'zf', 'rzf', 'wmmse', 'sdma',
%                                   'ldma' or 'noma'                                ('nflae')
%     'Refine'                      WMMSE steps after the network                   (0)
%     'Layout'                      'nks': H is N x K x S; 'kns': K x N x S         ('nks', if there are more
%                                   antennas than users; else it has to be given)
%     'Convention'                  'hermitian': y = H' * x, N x K; 'direct': y = H * x, K x N; with 'nks'
%                                   'direct' means y = H.' * x                      (by the layout)
%     'NearField'                   K x S labels to go by                           (found by the scheme)
%     'Want'                        cell of variables to send back: less to wait for (all)
%     'Timeout'                     seconds, for this call                          (the client's)
%
%   c = nflae.Client(address, name, value, ...):
%     'Timeout'                     seconds a call may take, server lost and back included (30)
%     'Transport'                   'octave' (package zeromq), 'python' (MATLAB's own, with pyzmq), 'jeromq'
%                                   (its jar on the Java path) or 'auto'
%     'ServerKey', 'PublicKey', 'SecretKey'   CURVE keys, 40 characters each; or
%     'ServerKeyFile', 'KeyFile'              files of `nflae keys`: the server's .key, your .key_secret
%
%   s = c.status() is a struct that says how the server is doing. c.close() hangs up.
%
%   Errors have identifiers to catch: nflae:badRequest, nflae:badChannels, nflae:tooLarge, nflae:busy,
%   nflae:expired, nflae:stopping, nflae:internal (the server's answers), nflae:timeout (none came),
%   nflae:badReply, nflae:badKey, nflae:noTransport. A server that is lost and comes back within the timeout costs
%   time but no error; an answer is always the one to the question asked.
%
%   A loop in which the channel changes every slot:
%
%     c = nflae.Client();
%     for slot = 1:1000
%       H = next_channel();
%       r = c.precode(H, 'NoisePower', 0.01, 'Want', {'precoder', 'power'});
%       y = H' * (r.precoder * (sqrt(r.power) .* next_symbols())) + noise();
%     end
%
%   Runs in GNU Octave 7 and is written for MATLAB too, where it has not been run yet.

  properties (SetAccess = private)
    address
    timeout
  end

  properties (Access = private)
    transport
    calls = 0;
    connected = false;   % the server has answered, and since then never failed to
    largest_frame = Inf; % bytes; what the server is known to take
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
        self.timeout = nflae.internal.positive(options.Timeout, 'Timeout');
      end
      self.transport = nflae.transport.open(self.address, options);
    end

    function result = precode(self, H, varargin)
      % PRECODE  Precoders, powers and labels for the channels H; see help nflae.Client.
      started = tic;
      [header, payload, seconds, layout] = nflae.internal.precode_request(H, varargin);
      if isempty(seconds)
        seconds = self.timeout;
      end
      [reply, result] = self.exchange(header, payload, seconds);
      info = reply.info;
      info.layout = layout;
      info.timing_us = reply.timing_us;
      info.timing_us.round_trip = round(1e6 * toc(started));
      result.nflae_info = info;
    end

    function found = status(self)
      % STATUS  How the server is doing: a struct with version, model, uptime_s, queue_depth, counts, ...
      reply = self.exchange(struct('v', 1, 'id', '', 'op', 'status'), {}, self.timeout);
      found = reply.status;
    end

    function close(self)
      % CLOSE  Hang up; the client can't be used after it.
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
    % Send a request until its own answer is here, and take the arrays that come with it.
    %
    % What was sent to a server that has died since is lost without a sign, and Octave's ZeroMQ package has no means
    % to throw away what waits for a server that isn't there. So nothing large is sent before the server has answered
    % a small status request, and one goes out for every second of silence: its answer says that the server is
    % there, and by its age whether it can know of the request. If not, the request is sent again; once more after
    % half of the time, in case only the connection was lost. Without payload the status request is all there is.
      if isempty(self.transport)
        error('nflae:badRequest', 'this client was closed; make a new one: c = nflae.Client(''%s'')', self.address);
      end
      started = tic;
      self.calls = self.calls + 1;
      header.id = sprintf('%d', self.calls);
      probe = struct('v', 1, 'id', [header.id '-status'], 'op', 'status');
      arrays = struct();
      refusal = [];   % the server's, because it is about to leave
      alive = false;  % it answered during this call
      sent_at = -Inf;
      probe_at = 0;   % when to ask next whether it is there
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
        self.transport.receive_rest([]);  % the arrays of an answer that nobody waits for any more
        frame = self.transport.receive(1e3 * (min(seconds, probe_at) - now_is), self.HEADER_BYTES);
        if isempty(frame)
          continue
        end
        reply = nflae.wire.decode_header(frame);
        if strcmp(reply.id, header.id)
          if ~reply.ok && strcmp(reply.error.code, 'stopping')  % perhaps another takes its place in time
            refusal = reply;
            sent_at = -Inf;
            probe_at = toc(started) + self.PAUSE_SECONDS;
            continue
          end
          nflae.internal.raise(reply);
          bytes = nflae.wire.frame_bytes(reply);
          arrays = nflae.wire.decode_arrays(reply, self.transport.receive_rest(bytes), bytes);
          return
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
    % When the request was sent, or -Inf if there is no room for it because too much waits for a lost server.
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
          'H is %.1f MB, and this server takes %.1f MB a request: send fewer drops at a time', ...
          bytes / 2^20, self.largest_frame / 2^20);
      end
    end

    function raise_timeout(self, alive, payload, seconds)
      if alive && ~isempty(payload)
        error('nflae:timeout', ['no precoders from %s within %g s, though it is there: raise ''Timeout'', or send' ...
          ' less than these %.1f MB (it may take no more than its --max-message-mb)'], ...
          self.address, seconds, numel(payload{1}) / 2^20);
      end
      error('nflae:timeout', ['no answer from %s within %g s: is `nflae serve` running there? If it asks for keys,' ...
        ' it does not answer without the right ones'], self.address, seconds);
    end
  end
end
