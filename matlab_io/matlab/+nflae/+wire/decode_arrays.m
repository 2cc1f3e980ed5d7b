function arrays = decode_arrays(reply, frames, bytes)
% DECODE_ARRAYS  Decode the arrays of a reply into the fields of a struct.
%
%   arrays = decode_arrays(reply, frames, bytes); the fields are complex single, double or logical.
%
%     reply     header, from decode_header
%     frames    cell of the uint8 rows after the header
%     bytes     their sizes, from frame_bytes

  if numel(frames) ~= numel(bytes) || any(cellfun('length', frames) ~= bytes)
    error('nflae:badReply', 'the arrays received do not have the sizes in the header of the reply');
  end
  arrays = struct();
  for i = 1:numel(frames)
    array = reply.arrays(i);
    shape = array.shape(:).';
    switch array.dtype
      case 'complex64'
        parts = reshape(typecast(frames{i}, 'single'), 2, []);
        % complex must be last: any other operation makes an array real if its imaginary parts are zero.
        value = complex(reshape(parts(1, :), shape), reshape(parts(2, :), shape));
      case 'float64'
        value = reshape(typecast(frames{i}, 'double'), shape);
      case 'bool'
        value = reshape(frames{i} ~= 0, shape);
    end
    arrays.(array.name) = value;
  end
end
