function transport = open(address, options)
% OPEN  Connect to an address over the ZeroMQ binding of this session.
%
%   transport = open(address, options) uses options.Transport, or by default the binding that is available. options also
%   has the CURVE keys; see nflae.internal.curve_keys.
%
%   A transport is a struct of functions around a DEALER socket, the only code that differs between Octave and MATLAB:
%
%     sent = transport.send(frames)         send a cell of uint8 rows as one message; false if the queue is full
%     frame = transport.receive(milliseconds, bytes)
%                                           first frame of the next message; [] if none arrives in that time
%     frames = transport.receive_rest(bytes)
%                                           other frames of that message, a cell of uint8 rows, possibly empty; bytes
%                                           (1 x frames) are their expected sizes
%     found = transport.listens()           whether a program listens at the address, found within half a second
%     transport.close()                     close the socket
%
%   A frame longer than bytes may be cut off, but to more than bytes; frames that are not expected may be empty. No
%   function waits longer than its time limit.

  [~, ~, order] = computer();
  if order ~= 'L'
    error('nflae:noTransport', 'this machine is big-endian, and the arrays on the wire are little-endian');
  end
  check_address(address);
  kind = 'auto';
  if isfield(options, 'Transport')
    kind = lower(nflae.internal.text(options.Transport, 'Transport'));
  end
  if strcmp(kind, 'auto')
    kind = usual_kind();
  end
  keys = nflae.internal.curve_keys(options);
  switch kind
    case 'octave'
      transport = nflae.transport.octave_zeromq(address, keys);
    case 'python'
      transport = nflae.transport.matlab_python(address, keys);
    case 'jeromq'
      transport = nflae.transport.jeromq(address, keys);
    otherwise
      error('nflae:badRequest', 'Transport must be ''auto'', ''octave'', ''python'' or ''jeromq'', got ''%s''', kind);
  end
  if strncmp(address, 'ipc://', 6)
    transport.listens = @() exist(address(7:end), 'file') ~= 0;
  end
end

function check_address(address)
% ZeroMQ itself takes port 80x for 80 and 99999 for 34463, and would wait there for the whole timeout.
  port = regexp(address, '^tcp://[^*]+:(\d{1,5})$', 'tokens', 'once');
  if isempty(regexp(address, '^ipc://[^*]', 'once')) && ...
      (isempty(port) || str2double(port{1}) < 1 || str2double(port{1}) > 65535)
    error('nflae:badRequest', ['%s is not an address to connect to: give tcp://HOST:PORT, with a port from 1 to' ...
      ' 65535, or ipc://FILE'], address);
  end
end

function kind = usual_kind()
% A jar is on the Java path only if the user put it there, so it takes precedence over MATLAB's Python.
  if exist('OCTAVE_VERSION', 'builtin')
    kind = 'octave';
  elseif exist('org.zeromq.ZContext', 'class') == 8
    kind = 'jeromq';
  else
    kind = 'python';
  end
end
