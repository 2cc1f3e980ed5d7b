% Write octave_channels.mat: near-field channels of a 256-antenna array.
%
%   octave-cli make_octave_channels.m
%
% H is N x K x S (antenna, user, drop), with y_k = H(:,k,s)' * x + noise. The scalars power and noise_power are the
% link budget, W. The users' positions (x, height) and the array's mounting are used by the plot only: nflae computes
% near-field labels, precoders and powers from H.

rand('twister', 20261122);
randn('twister', 20261122);

carrier_hz = 30e9;
lambda = 299792458 / carrier_hz;
N = 256;  K = 8;  S = 24;
d = lambda / 2;
array_height = 15;
array_tilt_rad = 5 * pi / 180;
power = 1;
noise_power = 0.01;

paths = 3;            % the line of sight and two scatterers
rice_db = 10;         % power of the former over that of the latter together, dB
reference = 60;       % ||h|| = 1 at this distance, m

n = (0:N-1).' - (N - 1) / 2;
H = complex(zeros(N, K, S, 'single'));
x = zeros(K, S);
height = zeros(K, S);
for s = 1:S
  for k = 1:K
    x(k, s) = 5 + 135 * rand();
    if rand() < 0.4
      height(k, s) = 1.5;                       % on the ground
    else
      height(k, s) = 5 + 45 * rand();           % in the air
    end
    h = zeros(N, 1);
    for path = 1:paths
      if path == 1
        px = x(k, s);  pz = height(k, s);
        gain = exp(2j * pi * rand());
      else
        px = 5 + 135 * rand();  pz = 50 * rand();
        gain = sqrt(10^(-rice_db / 10) / (paths - 1) / 2) * (randn() + 1j * randn());
      end
      r = hypot(px, array_height - pz);
      theta = atan2(array_height - pz, px) - array_tilt_rad;
      distance = sqrt(r^2 - 2 * n * d * r * sin(theta) + (n * d).^2);   % of each antenna from the wave's origin
      h = h + gain * exp(-2j * pi * (distance - r) / lambda) / sqrt(N);
    end
    H(:, k, s) = single(h * reference / hypot(x(k, s), array_height - height(k, s)));
  end
end

save('-v7', 'octave_channels.mat', 'H', 'power', 'noise_power', 'x', 'height', 'carrier_hz', ...
     'array_height', 'array_tilt_rad');
