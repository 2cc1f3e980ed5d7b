function transport = octave_zeromq(address, keys)
% OCTAVE_ZEROMQ  Connect over GNU Octave's package zeromq.
%
%   transport = octave_zeromq(address, keys); the interface is that of nflae.transport.open.

  try
    pkg load zeromq
  catch
    error('nflae:noTransport', ['Octave''s package zeromq is not installed: apt-get install octave-zeromq,' ...
      ' or pkg install -forge zeromq']);
  end
  socket = zmq_socket(ZMQ_DEALER);
  if ~isempty(keys)
    zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, keys.server);
    zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, keys.public);
    zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, keys.secret);
  end
  try
    zmq_connect(socket, address);
  catch
    zmq_close(socket);
    error('nflae:badRequest', '%s is not an address to connect to: give tcp://HOST:PORT or ipc://FILE', address);
  end
  dont_wait = ZMQ_DONTWAIT;
  send_more = ZMQ_SNDMORE;
  receive_more = ZMQ_RCVMORE;
  transport.send = @(frames) send(socket, frames, dont_wait, send_more);
  transport.receive = @(milliseconds, bytes) receive(socket, milliseconds, bytes);
  transport.receive_rest = @(bytes) receive_rest(socket, bytes, receive_more);
  transport.listens = @() listens(address);
  transport.close = @() zmq_close(socket);
end

function found = listens(address)
% A STREAM socket receives an empty message when its TCP connection is made.
  socket = zmq_socket(ZMQ_STREAM);
  zmq_connect(socket, address);
  found = zmq_poll(socket, 500) > 0;
  zmq_close(socket);
end

function sent = send(socket, frames, dont_wait, send_more)
  for i = 1:numel(frames)
    flags = dont_wait + (i < numel(frames)) * send_more;
    % Characters are sent without conversion; the package converts uint8 to double first.
    if zmq_send(socket, typecast(frames{i}, 'char'), flags) < 0
      sent = false;  % only for the first frame: ZeroMQ accepts a message completely or not at all
      return
    end
  end
  sent = true;
end

function frame = receive(socket, milliseconds, bytes)
  frame = [];
  if zmq_poll(socket, ceil(milliseconds))
    frame = zmq_recv(socket, bytes);
  end
end

function frames = receive_rest(socket, bytes, receive_more)
  frames = {};
  while zmq_getsockopt(socket, receive_more)
    room = 1;
    if numel(frames) < numel(bytes)
      room = bytes(numel(frames) + 1) + 1;
    end
    frames{end + 1} = zmq_recv(socket, room);
  end
end
