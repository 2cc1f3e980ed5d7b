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
% Name the argument in place of the field of the header that the server names, at `$.effort`, or beam_angles_deg at the
% beginning; write options as MATLAB does.
  message = regexprep(message, '^header: ', '');
  message = strrep(strrep(message, 'force=True', '''Force'', true'), '"then": "precode"', '''Then'', ''precode''');
  field = regexp(message, ' - at `\$\.([a-z_]+)[^`]*`', 'tokens', 'once');
  if ~isempty(field)
    message = [field{1}, ': ', regexprep(message, ' - at `[^`]*`', '')];
  else
    field = regexp(message, '^([a-z]+(?:_[a-z]+)+)\>', 'tokens', 'once');
  end
  if isempty(field)
    return
  end
  parts = strsplit(field{1}, '_');
  for i = 1:numel(parts)
    parts{i}(1) = upper(parts{i}(1));
  end
  message = regexprep(message, field{1}, [parts{:}], 'once');
end
