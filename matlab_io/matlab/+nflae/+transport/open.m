function transport = open(address, options)
% OPEN  A connection to address over whichever ZeroMQ this session has, or options.Transport.
%
%   A transport is a struct of functions around a DEALER socket; all that differs between Octave and MATLAB is in it:
%
%     sent = transport.send(frames)         a cell of uint8 rows as one message; false if there is no room for it
%     frame = transport.receive(milliseconds, bytes)
%                                           the first frame of the next message; [] if none came in that time
%     frames = transport.receive_rest(bytes)
%                                           what is left of that message, a cell of uint8 rows, empty if nothing
%                                           is; bytes (1 x frames) is what is expected
%     transport.close()
%
%   A frame longer than bytes may come cut off, but longer than bytes still; those not expected may come empty.
%   None of them waits for longer than it was told. options also has the CURVE keys; see curve_keys.

  [~, ~, order] = computer();
  if order ~= 'L'
    error('nflae:noTransport', 'this machine is big-endian, and the arrays on the wire are not');
  end
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
      error('nflae:badRequest', 'Transport has to be ''auto'', ''octave'', ''python'' or ''jeromq'', got ''%s''', kind);
  end
end

function kind = usual_kind()
% A jar is on the Java path only because somebody put it there, so it goes before MATLAB's Python.
  if exist('OCTAVE_VERSION', 'builtin')
    kind = 'octave';
  elseif exist('org.zeromq.ZContext', 'class') == 8
    kind = 'jeromq';
  else
    kind = 'python';
  end
end
