function keys = curve_keys(options)
% CURVE_KEYS  Collect the CURVE keys from the options of a client.
%
%   keys = curve_keys(options) is a struct with the fields server, public and secret (z85 text), from ServerKey or
%   ServerKeyFile, and PublicKey and SecretKey or KeyFile; [] if none is given.

  server = key_from(options, 'ServerKey', 'ServerKeyFile', 'public-key');
  public = key_from(options, 'PublicKey', 'KeyFile', 'public-key');
  secret = key_from(options, 'SecretKey', 'KeyFile', 'secret-key');
  absent = [isempty(server), isempty(public), isempty(secret)];
  if all(absent)
    keys = [];
    return
  end
  if any(absent)
    error('nflae:badKey', ['encryption needs the server''s public key and a key pair of the client: give' ...
      ' ''ServerKeyFile'' and ''KeyFile'', or ''ServerKey'', ''PublicKey'' and ''SecretKey''']);
  end
  keys = struct('server', server, 'public', public, 'secret', secret);
end

function key = key_from(options, name, file_name, entry)
  key = '';
  if isfield(options, name)
    key = nflae.internal.text(options.(name), name);
    if numel(key) ~= 40
      error('nflae:badKey', '%s must be a key of 40 characters, got %d', name, numel(key));
    end
  elseif isfield(options, file_name)
    path = nflae.internal.text(options.(file_name), file_name);
    if exist(path, 'file') ~= 2
      error('nflae:badKey', '%s: no such file: %s', file_name, path);
    end
    if strcmp(entry, 'secret-key')
      require_closed(path);
    end
    found = regexp(fileread(path), [entry, '\s*=\s*"([^"]{40})"'], 'tokens', 'once');
    if isempty(found)
      error('nflae:badKey', '%s: %s has no %s; `nflae keys` makes NAME.key, which is public, and NAME.key_secret', ...
        file_name, path, entry);
    end
    key = found{1};
  end
end

function require_closed(path)
% A secret key that other accounts may read is refused, as nflae serve does.
  [known, mode] = fileattrib(path);
  if isunix() && known && (mode.GroupRead || mode.OtherRead || mode.GroupWrite || mode.OtherWrite)
    error('nflae:badKey', '%s is open to other accounts, and holds a secret key: run chmod 600 on it', path);
  end
end
