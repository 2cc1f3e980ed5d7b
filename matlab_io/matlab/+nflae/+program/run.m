function result = run(command, variables, arguments)
% RUN  Run a command of the program nflae on temporary files and load its result.
%
%   result = run(command, variables, arguments) takes the name of the command, a struct of the variables of its
%   input file, with the channels H if there is one, and the name-value arguments of the call.

  [options, variables, program] = nflae.program.options(variables, arguments);
  folder = tempname();
  mkdir(folder);
  cleaner = onCleanup(@() remove(folder));
  output = fullfile(folder, 'result.mat');
  words = {command};
  if isfield(variables, 'H')
    input = fullfile(folder, 'channels.mat');
    store(input, variables);
    words{end + 1} = input;
  end
  report = call(program, [words, {'-o', output}, options], folder);
  result = load(output);
  result.nflae_info.report = strrep(report, output, 'the result');
end

function report = call(program, words, folder)
  quoted = cellfun(@quote, words, 'UniformOutput', false);
  line = strjoin([{program}, quoted, {'2>&1'}], ' ');
  if isunix() && ~exist('OCTAVE_VERSION', 'builtin')
    line = ['LD_LIBRARY_PATH= ', line];   % MATLAB's own libraries, which Python must not load
  end
  [status, report] = system(line);
  report = strrep(report, [fullfile(folder, 'channels.mat'), ': '], '');
  lines = strsplit(strtrim(report), '\n');
  if status == 127 || (ispc() && status == 9009)
    error('nflae:noProgram', ['cannot run %s: install nflae-bridge, and start from an environment that has nflae on' ...
      ' its path, or pass ''Program'', ''/path/to/nflae'''], program);
  elseif status == 2
    error('nflae:badRequest', '%s', regexprep(lines{end}, '^(Error|nflae: error): ', ''));
  elseif status ~= 0
    error('nflae:failed', '%s', regexprep(lines{end}, '^nflae: error: ', ''));
  end
  for i = 1:numel(lines)
    if strncmp(lines{i}, 'nflae: warning: ', 16)
      warning('nflae:warning', '%s', lines{i}(17:end));
    end
  end
end

function text = quote(text)
  if ispc()
    text = ['"', strrep(text, '"', '\"'), '"'];
  else
    text = ['''', strrep(text, '''', '''\'''''), ''''];
  end
end

function store(path, variables)
  bytes = whos('variables');
  if bytes.bytes < 2 ^ 31
    save(path, '-struct', 'variables', '-v7');
  elseif exist('OCTAVE_VERSION', 'builtin')
    error('nflae:tooLarge', ['the channels have %.1f GB, and Octave writes files of at most 2 GB: pass fewer drops a' ...
      ' call, or use nflae.Client'], bytes.bytes / 1e9);
  else
    save(path, '-struct', 'variables', '-v7.3');
  end
end

function remove(folder)
  files = dir(fullfile(folder, '*.mat*'));
  for i = 1:numel(files)
    delete(fullfile(folder, files(i).name));
  end
  rmdir(folder);
end
