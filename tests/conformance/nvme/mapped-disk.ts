/** The disk of every case, whose doorbells clients can map. */
import disk from './disk.ts';

export default () => disk('mapped');
