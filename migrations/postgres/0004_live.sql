-- Live transactions: a run for each producer and UTC day, whose messages are numbered as they are booked.

CREATE TABLE live_runs (
    run_id     text   PRIMARY KEY,
    producer   text   NOT NULL,
    -- YYYY-MM-DD, in UTC.
    day        text   NOT NULL,
    -- Whether the producer counts what it sends.
    counted    boolean NOT NULL,
    -- The place of the next message.
    next_chunk bigint NOT NULL DEFAULT 0,
    next_row   bigint NOT NULL DEFAULT 1,
    -- Rows of earlier days that came after their own run was sealed.
    late_rows  bigint NOT NULL DEFAULT 0
);

-- The place of each message in its run. A message keeps it for good, so that one that comes again is booked once.
CREATE TABLE live_messages (
    run_id    text   NOT NULL,
    message   text   NOT NULL,
    -- Of what was sent: another message under the same name is told apart by it.
    digest    text   NOT NULL,
    chunk     bigint NOT NULL,
    first_row bigint NOT NULL,
    rows      bigint NOT NULL,
    PRIMARY KEY (run_id, message)
);

-- What the processes of a producer have counted of a run: all that they answered for.
CREATE TABLE live_counts (
    run_id   text    NOT NULL,
    process  text    NOT NULL,
    messages bigint  NOT NULL,
    rows     bigint  NOT NULL,
    -- Rows that the broker may have taken, although nobody was told so.
    doubtful bigint  NOT NULL,
    -- Whether the process has said that it counted to its end.
    ended    boolean NOT NULL,
    PRIMARY KEY (run_id, process)
);
