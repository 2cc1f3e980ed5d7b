function reply = decode_header(frame)
% DECODE_HEADER  Decode the header of a reply.
%
%   reply = decode_header(frame) takes a uint8 row of JSON. reply.id is '' if the server could not read one.
%   reply.arrays is always a struct array, with as many elements as the list has.

  try
    reply = jsondecode(native2unicode(frame, 'UTF-8'));
    known = isstruct(reply) && isfield(reply, 'ok') && isfield(reply, 'id');
  catch
    known = false;
  end
  if ~known
    error('nflae:badReply', 'the reply is not that of an nflae server, or of one of another version');
  end
  if isempty(reply.id)
    reply.id = '';
  end
  if ~isfield(reply, 'arrays') || isempty(reply.arrays)
    reply.arrays = struct('name', {}, 'shape', {}, 'dtype', {});
  end
end
