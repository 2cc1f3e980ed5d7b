function bytes = frame_bytes(reply)
% FRAME_BYTES  How long the frames are that a reply's header announces (1 x arrays).

  types = {reply.arrays.dtype};
  flags = strcmp(types, 'bool');
  numbers = strcmp(types, 'float64') | strcmp(types, 'complex64');
  if ~all(flags | numbers)
    error('nflae:badReply', 'an array of type %s came, which this client does not know; is it too old?', ...
      types{find(~(flags | numbers), 1)});
  end
  bytes = cellfun(@prod, {reply.arrays.shape}) .* (flags + 8 * numbers);
end
