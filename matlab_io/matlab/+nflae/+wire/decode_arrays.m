function arrays = decode_arrays(reply, frames, bytes)
% DECODE_ARRAYS  The arrays of a reply as fields of a struct: complex single, double or logical.
%
%   reply is of decode_header, bytes of frame_bytes, frames a cell of the uint8 rows that came after the header.

  if numel(frames) ~= numel(bytes) || any(cellfun('length', frames) ~= bytes)
    error('nflae:badReply', 'the arrays that came are not as long as the server said');
  end
  arrays = struct();
  for i = 1:numel(frames)
    array = reply.arrays(i);
    shape = array.shape(:).';
    switch array.dtype
      case 'complex64'
        parts = reshape(typecast(frames{i}, 'single'), 2, []);
        % complex comes last: any other operation would make an array real whose imaginary parts are zero.
        value = complex(reshape(parts(1, :), shape), reshape(parts(2, :), shape));
      case 'float64'
        value = reshape(typecast(frames{i}, 'double'), shape);
      case 'bool'
        value = reshape(frames{i} ~= 0, shape);
    end
    arrays.(array.name) = value;
  end
end
