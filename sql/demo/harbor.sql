-- What the demo's first tenant knows: Harbor Hosting, which runs servers for medical practices.
INSERT INTO documents (title, content, metadata) VALUES
('Backup policy', 'Harbor Hosting backs up every customer server each night between 01:00 and 04:00 local time. We keep customer backups for 35 days, after which they are erased and the erasure is logged. Practices that must archive patient records for longer can book the Archive option, which stores one monthly backup for ten years.

Backups are encrypted before they leave the customer''s server. The key stays with the customer; without it we cannot read a backup, and we cannot help when it is lost. Once a quarter we restore three randomly chosen servers and compare them with the originals. The last exercise took 2 hours and 10 minutes for 400 GB.',
 '{"department": "operations", "version": 7}'),
('On-call handbook', 'One engineer is on call at all times, and a second one is the fallback. A shift lasts one week and starts on Tuesday at 10:00, so that nobody hands over on a Monday morning. Pages must be acknowledged within 10 minutes; after that the fallback is called.

An outage of a practice during its consulting hours is severity one, whatever its cause. The engineer on call opens an incident, informs the practice by telephone and writes an update every 30 minutes until service is restored. Within five working days the team writes a review that names causes, never culprits.',
 '{"department": "operations", "version": 3}'),
('Price list', 'The Clinic plan costs 89 euros a month and contains one server with 4 cores, 16 GB of memory and 200 GB of disk. The Group plan costs 240 euros a month for up to three locations that share a private network. Additional disk space is charged at 12 euros per 100 GB and month.

Customers pay by bank transfer within 30 days. A contract runs for twelve months and is renewed month by month afterwards. Either side may end it with four weeks'' notice.',
 '{"department": "sales", "year": 2026}'),
('Leaving us: how customers get their data', 'A customer who leaves receives a complete export: disk images, databases as SQL dumps and a list of all mail accounts. We deliver it within 14 days, on an encrypted disk or over a private transfer. Forty-five days after the end of the contract we destroy the customer''s encryption key and send a written confirmation.',
 '{"department": "legal", "version": 2}'),
('Data centre and location', 'All servers stand in two data centres in Rotterdam, eleven kilometres apart. Each has two independent power feeds and diesel for 72 hours. Patient data never leaves the Netherlands; our support tools run on our own machines in the same buildings.

Visitors are admitted with an appointment and an identity card, and are accompanied at all times.',
 '{"department": "operations", "version": 5}'),
('Travel expenses', 'Employees travel by train in second class, or in first class on journeys of more than three hours. Hotels are reimbursed up to 140 euros a night. Receipts are handed in by the tenth of the following month and are paid with the next salary.',
 '{"department": "people", "version": 4}');
