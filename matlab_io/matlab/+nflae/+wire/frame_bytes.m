function bytes = frame_bytes(reply)
% FRAME_BYTES  Compute the sizes of the frames that the header of a reply announces.
%
%   bytes = frame_bytes(reply) is 1 x arrays.

  types = {reply.arrays.dtype};
  flags = strcmp(types, 'bool');
  numbers = strcmp(types, 'float64') | strcmp(types, 'complex64');
  if ~all(flags | numbers)
    error('nflae:badReply', 'an array has type %s, which this client cannot decode; update the client', ...
      types{find(~(flags | numbers), 1)});
  end
  bytes = cellfun(@prod, {reply.arrays.shape}) .* (flags + 8 * numbers);
end
