function transport = matlab_python(address, keys)
% MATLAB_PYTHON  Connect over MATLAB's Python interface and pyzmq.
%
%   transport = matlab_python(address, keys); the interface is that of nflae.transport.open.
%
%   Needs pyzmq in the Python that MATLAB uses (see pyenv). Written from MATLAB's documentation; not tested in MATLAB.

  try
    context = py.zmq.Context.instance();
  catch cause
    error('nflae:noTransport', ['MATLAB needs pyzmq in its Python (see pyenv; pip install pyzmq there), or' ...
      ' JeroMQ: javaaddpath(''jeromq.jar''). Python reported: %s'], cause.message);
  end
  socket = context.socket(py.zmq.DEALER);
  socket.setsockopt(py.zmq.LINGER, int32(0));
  socket.setsockopt(py.zmq.HEARTBEAT_IVL, int32(5000));
  if ~isempty(keys)
    socket.setsockopt_string(py.zmq.CURVE_SERVERKEY, keys.server);
    socket.setsockopt_string(py.zmq.CURVE_PUBLICKEY, keys.public);
    socket.setsockopt_string(py.zmq.CURVE_SECRETKEY, keys.secret);
  end
  try
    socket.connect(address);
  catch
    socket.close();
    error('nflae:badRequest', '%s is not an address to connect to: give tcp://HOST:PORT or ipc://FILE', address);
  end
  transport.send = @(frames) send(socket, frames);
  transport.receive = @(milliseconds, bytes) receive(socket, milliseconds);
  transport.receive_rest = @(bytes) receive_rest(socket);
  transport.listens = @() listens(address);
  transport.close = @() socket.close();
end

function found = listens(address)
  parts = regexp(address, '^tcp://\[?(.*?)\]?:(\d+)$', 'tokens', 'once');
  try
    connection = py.socket.create_connection(py.tuple({parts{1}, int32(str2double(parts{2}))}), 0.5);
    connection.close();
    found = true;
  catch
    found = false;
  end
end

function sent = send(socket, frames)
  sent = double(socket.poll(int32(0), py.zmq.POLLOUT)) ~= 0;
  if sent
    socket.send_multipart(py.list(cellfun(@python_bytes, frames, 'UniformOutput', false)));
  end
end

function frame = receive(socket, milliseconds)
  frame = [];
  if double(socket.poll(int32(ceil(milliseconds)))) ~= 0
    frame = row(socket.recv());
  end
end

function frames = receive_rest(socket)
  frames = {};
  while double(socket.getsockopt(py.zmq.RCVMORE)) ~= 0
    frames{end + 1} = row(socket.recv()); %#ok<AGROW> ten at most
  end
end

function bytes = row(frame)
  bytes = reshape(uint8(frame), 1, []);
end

function bytes = python_bytes(frame)
  if isscalar(frame)
    frame = py.list({frame});  % in Python a single uint8 is a number n, and bytes(n) is n zeros
  end
  bytes = py.bytes(frame);
end
