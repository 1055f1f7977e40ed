-- Orleans' ADO.NET reminder table finds its statements here, by key.
CREATE TABLE orleansquery (
    querykey  varchar(64) PRIMARY KEY,
    querytext varchar(8000) NOT NULL
);
