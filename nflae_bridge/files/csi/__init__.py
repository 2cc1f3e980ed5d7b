"""Process files of channel state information (CSI): predict sequences of snapshots."""
