function raise(reply)
% RAISE  Raise the error that a reply of the server stands for, if it does: bad_channels as nflae:badChannels.

  if reply.ok
    return
  end
  words = strsplit(reply.error.code, '_');
  for i = 2:numel(words)
    words{i} = [upper(words{i}(1)), words{i}(2:end)];
  end
  error(['nflae:', words{:}], '%s', reply.error.message);
end
