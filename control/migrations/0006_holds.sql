-- Whether a device was refused the image because its rollout was held, and has not got any of it since.
ALTER TABLE rollout_devices ADD COLUMN refused BOOLEAN NOT NULL DEFAULT FALSE;
