function raise(reply)
% RAISE  Raise the error in a server's reply, if there is one.
%
%   raise(reply) takes the decoded header; the code bad_channels is raised as nflae:badChannels.

  if reply.ok
    return
  end
  words = strsplit(reply.error.code, '_');
  for i = 2:numel(words)
    words{i} = [upper(words{i}(1)), words{i}(2:end)];
  end
  error(['nflae:', words{:}], '%s', reply.error.message);
end
