% Record channels of QuaDRiGa 2.8.1 for test_quadriga.py; run in Octave 7, in the folder that receives the files:
%
%   octave-cli --eval "addpath('quadriga_src'); run('quadriga_record.m')"
%
% Octave cannot call a method of an element of an array of objects, so each user is a layout of its own.
warning('off', 'all');
rand('twister', 1); randn('twister', 1);
F = 4; B = 100e6;
grid = ((0:F-1) - (F-1) / 2) / F;     % carriers of fr, relative to B: around the center frequency
places = [60 40 25; 20 -30 5; 1.5 1.5 1.5];
for k = 1:3
  s = qd_simulation_parameters;
  s.center_frequency = 7e9; s.show_progress_bars = 0; s.use_absolute_delays = 1;
  l = qd_layout(s);
  l.tx_position = [0; 0; 25];
  l.tx_array = qd_arrayant('3gpp-3d', 1, 4, s.center_frequency, 1, 0, 0.5);
  l.tx_array.rotate_pattern(90, 'x');                                     % a row of four antennas
  l.rx_array = qd_arrayant('omni');
  if k == 3                                                                % two receive antennas
    l.rx_array.no_elements = 2;
    l.rx_array.element_position(2, 2) = 0.02;
  end
  t = qd_track('linear', 0.04, pi / 3); t.initial_position = places(:, k);
  t.interpolate_positions(50);
  l.rx_track = t;
  l.set_scenario('3GPP_38.901_UMi_LOS');
  c = l.get_channels;
  c = c(1, 1);
  users(k).coeff = c.coeff; users(k).delay = c.delay; users(k).center_frequency = c.center_frequency;
  responses{k} = c.fr(B, grid);
  if k == 1
    c.mat_save('quadriga_mat_save.mat', '-v7');
    c.individual_delays = 0;
    shared.coeff = c.coeff; shared.delay = c.delay;
    shared_fr = c.fr(B, grid);
  end
  disp(size(c.coeff)); disp(size(responses{k}));
end
chan = users(1:2); fr = responses(1:2);
save('-v7', 'quadriga_users.mat', 'chan');
save('-v7', 'quadriga_fr.mat', 'fr');
chan = users(3); fr = responses{3};
save('-v7', 'quadriga_two_receive.mat', 'chan', 'fr');
chan = shared; fr = shared_fr;
save('-v7', 'quadriga_shared_delays.mat', 'chan', 'fr');
