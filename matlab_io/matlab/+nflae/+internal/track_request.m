function [header, payload, seconds] = track_request(measured, times, arguments)
% TRACK_REQUEST  Make the request for a call of nflae.Client.track.
%
%   [header, payload, seconds] = track_request(measured, times, arguments) takes channels N x K x S or, with 'Powers',
%   true, beam powers B x K x S, the times of the snapshots, s, and the name-value arguments. header lacks the id, payload
%   is a cell of uint8 rows, and seconds is [] without 'Timeout'.

  options = nflae.internal.named(arguments, {'Track', 'Powers', 'Gps', 'Detections', 'ArrayHeight', 'TiltDeg', ...
    'CarrierGhz', 'BeamAnglesDeg', 'Ahead', 'Geometry', 'Layout', 'Convention', 'Timeout'});
  given = @(name) isfield(options, name);
  of_powers = given('Powers') && isequal(logical(options.Powers), true);
  if ~isnumeric(measured) || isempty(measured) || ndims(measured) > 3 || (of_powers && ~isreal(measured))
    error('nflae:badRequest', ['track takes complex channels, antennas x users x snapshots, or real beam powers,' ...
      ' beams x users x snapshots, with ''Powers'', true']);
  elseif ~of_powers && isreal(measured)
    error('nflae:badRequest', 'the channels are real: use complex(H), or ''Powers'', true for beam powers');
  end
  if of_powers && any(measured(:) < 0)
    error('nflae:badRequest', 'powers: negative values; expected linear powers, not dB: 10.^(powers/10)');
  end
  [measured, convention] = oriented(measured, of_powers, options);
  shape = [size(measured), 1];
  shape = shape(1:3);
  if ~isnumeric(times) || ~isreal(times) || numel(times) ~= shape(3) || ~all(isfinite(times(:)))
    error('nflae:badRequest', 'times: %d for %d snapshots: one finite real number of seconds each', numel(times), ...
      shape(3));
  end
  header = struct('v', 1, 'id', '', 'op', 'track', 'shape', shape, 'times', reshape(double(times), 1, []));
  if of_powers
    header.dtype = 'float64';
    payload = {typecast(reshape(double(measured), 1, []), 'uint8')};
  else
    payload = {nflae.wire.encode_channels(measured)};
  end
  if given('Convention')
    header.convention = nflae.internal.text(options.Convention, 'Convention');
  elseif strcmp(convention, 'direct')
    header.convention = convention;
  end
  if given('Layout')
    header.layout = 'nks';
  end
  if given('Geometry')
    header.geometry = nflae.internal.text(options.Geometry, 'Geometry');
  end
  if given('Track')
    header.track = nflae.internal.text(options.Track, 'Track');
  end
  if given('Gps')
    header.gps = true;
    payload{end + 1} = pairs(options.Gps, 'Gps', [2, shape(2), shape(3)]);
    if any(isinf(options.Gps(:)))
      error('nflae:badRequest', 'Gps holds Inf: NaN where missing');
    end
  end
  if given('Detections') && ~isempty(options.Detections)
    header.detections = size(options.Detections, 2);
    payload{end + 1} = pairs(options.Detections, 'Detections', [2, header.detections, shape(3)]);
  end
  numbers = {'ArrayHeight', 'array_height', 1, 1e6, 'm'; 'TiltDeg', 'array_tilt_rad', pi / 180, 89.98, 'degrees'; ...
    'CarrierGhz', 'carrier_hz', 1e9, 1e4, 'GHz'; 'Ahead', 'ahead', 1, 100, 'snapshots'};
  for i = 1:size(numbers, 1)
    [name, field, factor, largest, unit] = numbers{i, :};
    if given(name)
      value = nflae.internal.number(options.(name), name);
      if abs(value) > largest || (strcmp(name, 'CarrierGhz') && value < 1e-3)
        error('nflae:badRequest', '%s is out of range: %g %s', name, value, unit);
      end
      header.(field) = factor * value;
    end
  end
  if given('BeamAnglesDeg')
    if ~isnumeric(options.BeamAnglesDeg) || ~isreal(options.BeamAnglesDeg) || ~all(isfinite(options.BeamAnglesDeg(:)))
      error('nflae:badRequest', 'BeamAnglesDeg must be finite real numbers of degrees');
    end
    header.beam_angles_deg = reshape(double(options.BeamAnglesDeg), 1, []);
  end
  seconds = [];
  if given('Timeout')
    seconds = nflae.internal.positive(options.Timeout, 'Timeout', 1e6);
  end
end

function [measured, convention] = oriented(measured, of_powers, options)
% Put antennas or beams before users; users beyond their number need a stated layout, as for precode.
  if ~of_powers
    [measured, layout, convention] = nflae.internal.channels(measured, options);
    if any(ismember(layout, 'rf'))
      error('nflae:badRequest', 'Layout ''%s'': track takes one antenna per user and one frequency', layout);
    end
    return
  end
  convention = 'hermitian';
  if isfield(options, 'Convention')
    error('nflae:badRequest', 'Convention: beam powers have no phase; leave it out, or pass channels');
  end
  if isfield(options, 'Layout')
    if ~strcmpi(nflae.internal.text(options.Layout, 'Layout'), 'nks')
      error('nflae:badRequest', 'Layout of beam powers: ''nks'', beams x users x snapshots, got ''%s''', options.Layout);
    end
  elseif size(measured, 2) >= size(measured, 1)
    error('nflae:badRequest', ['the powers are read as %d beams of %d users: pass permute(P, [2 1 3]) if users come' ...
      ' first, or ''Layout'', ''nks'' if that is correct'], size(measured, 1), size(measured, 2));
  end
end

function bytes = pairs(values, name, shape)
% Encode pairs of real numbers, 2 x objects x snapshots.
  found = [size(values), 1];
  if ~isnumeric(values) || ~isreal(values) || ~isequal(found(1:3), shape)
    error('nflae:badRequest', '%s: real %s expected, got %s of %s', name, mat2str(shape), class(values), ...
      mat2str(size(values)));
  end
  bytes = typecast(reshape(double(values), 1, []), 'uint8');
end
