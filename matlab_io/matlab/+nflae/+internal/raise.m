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
  error(['nflae:', words{:}], '%s', with_argument(reply.error.message));
end

function message = with_argument(message)
% Name the argument in place of the field of the header that the server names, `$.beam_angles_deg` or beam_angles_deg.
  message = regexprep(message, '^header: ', '');
  field = regexp(message, '^(?:.* at `\$\.)?([a-z]+(?:_[a-z]+)+)\>', 'tokens', 'once');
  if isempty(field)
    return
  end
  parts = strsplit(field{1}, '_');
  for i = 1:numel(parts)
    parts{i}(1) = upper(parts{i}(1));
  end
  message = strrep(message, field{1}, [parts{:}]);
end
