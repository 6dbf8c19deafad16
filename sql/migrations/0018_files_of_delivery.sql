-- Lists the newest files of a delivery that has had none for long, without reading all the newer ones.
CREATE INDEX file_uploads_of_delivery ON file_uploads (delivery_id, id);
