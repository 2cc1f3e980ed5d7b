function reply = decode_header(frame)
% DECODE_HEADER  A reply's header (uint8 row of JSON) as a struct; id is '' if the server could read none.
%
%   reply.arrays is made a struct array, of none, one or more elements, whatever jsondecode makes of the list.

  try
    reply = jsondecode(native2unicode(frame, 'UTF-8'));
    known = isstruct(reply) && isfield(reply, 'ok') && isfield(reply, 'id');
  catch
    known = false;
  end
  if ~known
    error('nflae:badReply', 'what answers there is no nflae server, or one of another version');
  end
  if isempty(reply.id)
    reply.id = '';
  end
  if ~isfield(reply, 'arrays') || isempty(reply.arrays)
    reply.arrays = struct('name', {}, 'shape', {}, 'dtype', {});
  end
end
