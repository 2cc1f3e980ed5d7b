function bytes = encode_channels(H)
% ENCODE_CHANNELS  Encode channels as interleaved single real and imaginary parts.
%
%   bytes = encode_channels(H) is a uint8 row in the order of H(:). Both rows of parts are filled in place:
%   [real(H(:)).'; imag(H(:)).'] takes ten times as long in Octave.

  H = single(H(:));
  parts = zeros(2, numel(H), 'single');
  parts(1, :) = real(H);
  parts(2, :) = imag(H);
  bytes = typecast(reshape(parts, 1, []), 'uint8');
end
