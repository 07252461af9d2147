-- What the demo's second tenant knows: Summit Bookings, which sells lift passes for ski resorts.
INSERT INTO documents (title, content, metadata) VALUES
('Data retention', 'Summit Bookings stores what a resort needs to run its season and no more. We keep customer backups for 90 days, because refunds are disputed until late spring. Backups older than that are deleted on the first Sunday of each month. Payment data is never part of a backup; it stays with the payment provider.

Guests may ask a resort to delete their account. We carry out such a request within 30 days, and it reaches the last backup when that backup expires.',
 '{"department": "engineering", "version": 12}'),
('Refunds for closed lifts', 'When a resort closes more than half of its lifts because of wind or lack of snow, day passes are refunded in full without a request. Season passes are extended by the same number of days. The money is sent back to the card that paid, usually within five working days.

Guests who were injured receive the unused share of their pass when they send a medical certificate within three weeks.',
 '{"department": "support", "version": 9}'),
('Peak days', 'On the Saturday between Christmas and New Year we sell about 310,000 passes, nine times as many as on an average day. From 20 December to 6 January nothing is deployed except security fixes. The load test in November must reach 900 orders a second with a 99th percentile below 400 milliseconds.',
 '{"department": "engineering", "version": 6}'),
('Project quillwort', 'Quillwort is the internal name of our purchase of Lindmark Lifts, planned for the third quarter. Nothing about it is to be told to resorts or the press before both boards have agreed. The purchase price is 48 million francs, a third of it in shares. Only the people on the quillwort list may open this document.',
 '{"department": "board", "confidential": true}'),
('Resort onboarding', 'A new resort is online within six weeks. In the first two weeks we connect its gates and test them with one hundred printed passes. Then the resort enters its prices, and we compare them with last year''s accounts. In the last week a team of two is on site.

The setup costs 18,000 francs. Afterwards we take 2.4 percent of the turnover, with a minimum of 900 francs in every month of the season.',
 '{"department": "sales", "year": 2026}'),
('Working hours', 'The office in Chur is staffed from 07:30 to 18:00. During the season, support answers the telephone seven days a week from 07:00 to 20:00. Everyone has 27 days of holiday, which are taken outside of the season if possible, and a season pass that is valid in every connected resort.',
 '{"department": "people", "version": 3}');
