function [words, variables, program] = options(variables, arguments)
% OPTIONS  Convert name-value arguments to options of the program nflae and variables of its file.
%
%   [words, variables, program] = options(variables, arguments) takes the variables of the file, H among them if
%   there are channels, and the name-value arguments. Names are those of the command line in MATLAB's spelling:
%   'RfChains', 8 becomes --rf-chains 8. Arrays become variables, which the option names. Names that do not exist are
%   left to the program.

  IN_FILE = {'power', 'noise_power', 'alpha_c', 'min_rate', 'near_field'};   % read from the file without an option

  if mod(numel(arguments), 2) ~= 0
    error('nflae:badRequest', 'options come in pairs of a name and a value, as in ''NoisePower'', 0.01');
  end
  program = getenv('NFLAE_PROGRAM');
  if isempty(program)
    program = 'nflae';
  end
  words = {};
  flags = {};   % last, so that none is taken for the value of another option
  reading = struct();
  given = {};
  for i = 1:2:numel(arguments)
    name = nflae.internal.text(arguments{i}, 'the name of an option');
    value = arguments{i + 1};
    option = lower(regexprep(name, '([a-z0-9])([A-Z])', '$1-$2'));
    variable = strrep(option, '-', '_');
    if any(strcmp(option, given))
      error('nflae:badRequest', 'option ''%s'' is given twice', name);
    end
    given{end + 1} = option;
    if any(strcmp(option, {'output', 'var'}))
      error('nflae:badRequest', 'option ''%s'' is of files: channels and results are arrays here', name);
    elseif ~isnumeric(value) && any(strcmp(option, {'power', 'noise-power'}))
      error('nflae:badRequest', '%s must be a number or an array of numbers, W, got %s', name, class(value));
    end
    if strcmp(option, 'program')
      program = nflae.internal.text(value, name);
    elseif any(strcmp(option, {'layout', 'convention'}))
      reading.([upper(option(1)), option(2:end)]) = nflae.internal.text(value, name);
    elseif isnumeric(value) && any(strcmp(variable, IN_FILE))
      variables.(variable) = value;
    elseif islogical(value) && isscalar(value) && ~any(strcmp(variable, IN_FILE))
      if value
        flags{end + 1} = ['--', option];
      end
    elseif islogical(value) || (isnumeric(value) && numel(value) ~= 1)
      variables.(variable) = double(value);
      if ~any(strcmp(variable, IN_FILE))
        words = [words, {['--', option], variable}];
      end
    elseif isnumeric(value)
      words = [words, {['--', option], shortest(nflae.internal.number(value, name))}];
    else
      words = [words, {['--', option], nflae.internal.text(value, name)}];
    end
  end
  if isfield(variables, 'H')
    [~, layout, convention] = nflae.internal.channels(variables.H, reading);
    words = [words, {'--var', 'H', '--layout', layout, '--convention', convention, '--allow-real'}];
  else
    names = fieldnames(reading);
    for i = 1:numel(names)
      words = [words, {['--', lower(names{i})], reading.(names{i})}];
    end
  end
  words = [words, flags];
end

function text = shortest(value)
% Write a number in the fewest digits that give it back.
  text = sprintf('%.15g', value);
  if str2double(text) ~= value
    text = sprintf('%.17g', value);
  end
end
