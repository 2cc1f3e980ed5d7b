function transport = jeromq(address, keys)
% JEROMQ  Connect over JeroMQ, ZeroMQ in Java.
%
%   transport = jeromq(address, keys); the interface is that of nflae.transport.open.
%
%   Needs jeromq 0.5 or newer on the Java path: javaaddpath('jeromq-0.6.0.jar'). Tested with that version over Octave's
%   Java interface, which has the same functions as MATLAB's; not tested in MATLAB.

  try
    context = javaObject('org.zeromq.ZContext');
  catch
    error('nflae:noTransport', 'JeroMQ is not on the Java path: javaaddpath(''jeromq-0.6.0.jar'')');
  end
  socket = context.createSocket(javaMethod('valueOf', 'org.zeromq.SocketType', 'DEALER'));
  socket.setLinger(0);
  socket.setHeartbeatIvl(5000);
  if ~isempty(keys)
    socket.setCurveServerKey(java_bytes(uint8(keys.server)));
    socket.setCurvePublicKey(java_bytes(uint8(keys.public)));
    socket.setCurveSecretKey(java_bytes(uint8(keys.secret)));
  end
  try
    socket.connect(address);
  catch
    context.close();
    error('nflae:badRequest', '%s is not an address to connect to: give tcp://HOST:PORT or ipc://FILE', address);
  end
  transport.send = @(frames) send(socket, frames);
  transport.receive = @(milliseconds, bytes) receive(socket, milliseconds);
  transport.receive_rest = @(bytes) receive_rest(socket);
  transport.listens = @() listens(address);
  transport.close = @() context.close();
end

function found = listens(address)
  parts = regexp(address, '^tcp://\[?(.*?)\]?:(\d+)$', 'tokens', 'once');
  connection = javaObject('java.net.Socket');
  try
    connection.connect(javaObject('java.net.InetSocketAddress', parts{1}, str2double(parts{2})), 500);
    found = true;
  catch
    found = false;
  end
  connection.close();
end

function sent = send(socket, frames)
  DONT_WAIT = 1;
  SEND_MORE = 2;
  for i = 1:numel(frames)
    if ~socket.send(java_bytes(frames{i}), DONT_WAIT + (i < numel(frames)) * SEND_MORE)
      sent = false;  % only for the first frame: ZeroMQ accepts a message completely or not at all
      return
    end
  end
  sent = true;
end

function frame = receive(socket, milliseconds)
  socket.setReceiveTimeOut(ceil(milliseconds));
  bytes = socket.recv();
  frame = [];
  if ~isempty(bytes)
    frame = row(bytes);
  end
end

function frames = receive_rest(socket)
  frames = {};
  while socket.hasReceiveMore()
    frames{end + 1} = row(socket.recv()); %#ok<AGROW> ten at most
  end
end

% Java's bytes are signed.

function bytes = java_bytes(frame)
  bytes = typecast(frame, 'int8');
end

function frame = row(bytes)
  frame = reshape(typecast(int8(bytes), 'uint8'), 1, []);
end
