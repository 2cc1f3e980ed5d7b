function [header, payload, seconds, layout, H] = precode_request(H, arguments, labelled, precoded)
% PRECODE_REQUEST  Make the request for a call of nflae.Client.precode.
%
%   [header, payload, seconds, layout, H] = precode_request(H, arguments) takes the channels and the name-value arguments.
%   precode_request(H, arguments, labelled, precoded) expects labels for another number of drops than H has; precoded is
%   false where no precoders are requested.
%
%     header     struct with the fields of docs/reference/protocol.md, id empty; it has only what is given: the defaults
%                and the ranges are the server's
%     payload    cell of uint8 rows
%     seconds    the call's own timeout, [] if none is given
%     layout     one letter per axis of H
%     H          channels h_k in columns, N x K x S; [] where receive antennas are combined

  options = nflae.internal.named(arguments, {'Power', 'PowerDbw', 'NoisePower', 'NoiseDbw', 'AlphaC', 'MinRate', ...
    'Scheme', 'Refine', 'Convention', 'Layout', 'ReceiveAntennas', 'NearField', 'Want', 'Timeout', 'Objective', ...
    'Window', 'Weights', 'PowerPerAntenna', 'AntennaGroups', 'RfChains', 'PhaseBits', 'Connection', 'Streams', ...
    'PowerScope', 'Effort'});
  given = @(name) isfield(options, name);

  extents = size(H);
  [H, layout, convention] = nflae.internal.channels(H, options);
  if any(layout == 'r')
    [antennas, receive, users, drops] = size(H);
    shape = [antennas, receive, users, drops];
  else
    [antennas, users, drops] = size(H);
    shape = [antennas, users, drops];
  end
  header = struct('v', 1, 'id', '', 'op', 'precode', 'shape', shape, 'dtype', 'complex64', 'convention', convention);
  if any(layout == 'r') ~= given('ReceiveAntennas')
    error('nflae:badRequest', ['ReceiveAntennas (''each'', ''strongest'', ''eigen'' or ''joint'') and an axis r in' ...
      ' Layout belong together: pass both or neither, got Layout ''%s'''], layout);
  elseif given('ReceiveAntennas')
    header.receive_antennas = lower(nflae.internal.text(options.ReceiveAntennas, 'ReceiveAntennas'));
    if strcmp(header.receive_antennas, 'each')
      users = receive * users;
    end
  end

  header = with_watts(header, options, 'power', 'Power', 'PowerDbw');
  header = with_watts(header, options, 'noise_power', 'NoisePower', 'NoiseDbw');
  numbers = {'AlphaC', 'alpha_c'; 'MinRate', 'min_rate'; 'Refine', 'refine'};
  for row = 1:size(numbers, 1)
    if given(numbers{row, 1})
      header.(numbers{row, 2}) = nflae.internal.number(options.(numbers{row, 1}), numbers{row, 1});
    end
  end
  if given('Scheme')
    header.scheme = nflae.internal.text(options.Scheme, 'Scheme');
  end
  if given('Effort')
    header.effort = nflae.internal.text(options.Effort, 'Effort');
  end
  if given('Want')
    header.want = names(options.Want);
  end
  labels = {};
  if given('NearField') && ischar(options.NearField)
    header.near_field = options.NearField;
  elseif given('NearField')
    header.near_field = true;
    if nargin < 3
      labelled = drops;
    end
    labels = {label_bytes(options.NearField, users, labelled)};
  end
  [header, weights] = nflae.internal.problem_fields(header, options, layout, extents, users, drops);
  if ~isfield(header, 'noise_power') && (nargin < 4 || precoded)
    check_default_noise(H, header, antennas);
  end
  payload = [{nflae.wire.encode_channels(H)}, labels, weights];
  if any(layout == 'r')
    if strcmp(header.receive_antennas, 'each')
      H = reshape(H, antennas, users, drops);
    else
      H = [];
    end
  end
  if strcmp(convention, 'direct')
    H = conj(H);
  end
  seconds = [];
  if given('Timeout')
    seconds = nflae.internal.positive(options.Timeout, 'Timeout', 1e6);
  end
end

function header = with_watts(header, options, field, watts, dbw)
  if isfield(options, watts) && isfield(options, dbw)
    error('nflae:badRequest', '%s and %s are one quantity in two units: give one of them', watts, dbw);
  elseif isfield(options, watts)
    header.(field) = nflae.internal.number(options.(watts), watts);
  elseif isfield(options, dbw)
    level = nflae.internal.number(options.(dbw), dbw);
    header.(field) = 10 ^ (level / 10);
    if ~(header.(field) > 0 && isfinite(header.(field)))
      error('nflae:badRequest', '%s must be within 300 dB of 1 W, got %g', dbw, level);
    end
  end
end

function check_default_noise(H, header, antennas)
  power = 1;
  if isfield(header, 'power')
    power = header.power;
  elseif isfield(header, 'power_per_antenna')
    power = sum(header.power_per_antenna(:)) * antennas / numel(header.power_per_antenna);
  end
  gains = sum(abs(double(H)) .^ 2, 1);
  if isfield(header, 'receive_antennas')
    gains = mean(gains, 2);
  end
  gains = gains(isfinite(gains) & gains > 0);
  snr_db = 10 * log10(median(gains(:)) * power / 0.01);
  if ~isempty(gains) && (snr_db < -20 || snr_db > 60)
    error('nflae:badRequest', ['the SNR of the median user is %.1f dB with the default noise power of 0.01 W, beyond' ...
      ' -20 to 60 dB; pass ''NoisePower'' in W, in the units of H'], snr_db);
  end
end

function list = names(want)
  if ischar(want)
    want = {want};
  end
  if ~iscell(want) || isempty(want)
    error('nflae:badRequest', 'Want must be a cell of variable names, as in {''precoder'', ''power''}');
  end
  list = cell(1, numel(want));
  for i = 1:numel(want)
    list{i} = nflae.internal.text(want{i}, 'a name in Want');
  end
end

function bytes = label_bytes(labels, users, drops)
  if ~(islogical(labels) || isnumeric(labels)) || ~isequal(size(labels), [users, drops]) || ...
      any(labels(:) ~= 0 & labels(:) ~= 1)
    error('nflae:badRequest', 'NearField must be %d x %d (users x drops), true or false each, got %s of class %s', ...
      users, drops, strjoin(strsplit(num2str(size(labels))), ' x '), class(labels));
  end
  bytes = reshape(uint8(labels), 1, []);
end
